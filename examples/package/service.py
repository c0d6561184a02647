"""A package from a local folder, on a plain base: nothing is built and nothing is pushed.

python examples/package/service.py
"""

from pathlib import Path

from chalkcompute import Image, ScalingGroup

HERE = Path(__file__).parent

image = (
    Image.debian_slim("3.12")
    .add_local_dir(HERE / "catalog", "/app/catalog")
    .workdir("/app")
    .entrypoint(["python", "-m", "catalog"])
)

if __name__ == "__main__":
    print(ScalingGroup(image=image, name="catalog", port=8080).deploy().wait_ready().web_url)
