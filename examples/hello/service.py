"""The specification's quick start: an image made of a base, a package and a local file.

Deploy it from Python (`python examples/hello/service.py`), or the `image` alone from the command line:

    chalk scaling-group create --image=examples/hello/service.py:image --name=hello-api
"""

from pathlib import Path

from chalkcompute import Image, ScalingGroup

HERE = Path(__file__).parent

image = (
    Image.debian_slim("3.12")
    .pip_install(["flask"])
    .add_local_file(HERE / "app.py", "/app/app.py")
    .entrypoint(["python", "/app/app.py"])
)

if __name__ == "__main__":
    group = ScalingGroup(image=image, name="hello-api", port=8080).deploy().wait_ready()
    response = group.call("/health", method="GET")
    print(response.status_code, response.text)
    group.delete()
