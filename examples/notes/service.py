"""An asynchronous server with a secret and a volume.

NOTES_TOKEN=... python examples/notes/service.py
"""

from pathlib import Path

from chalkcompute import Image, ScalingGroup, Secret, Volume

HERE = Path(__file__).parent

image = (
    Image.debian_slim("3.12")
    .pip_install(["starlette", "uvicorn"])
    .add_local_file(HERE / "app.py", "/app/app.py")
    .entrypoint(["python", "/app/app.py"])
)


def service() -> ScalingGroup:
    """The group; its claim `notes` is made if there is none, and stays when the group is deleted."""
    return ScalingGroup(
        image=image,
        name="notes",
        port=8080,
        secrets=[Secret.from_env("NOTES_TOKEN")],
        volumes=[(Volume("notes", create=True, size="1Gi"), "/data")],
        min_replicas=2,
        max_replicas=2,
    )


if __name__ == "__main__":
    print(service().deploy().wait_ready().web_url)
