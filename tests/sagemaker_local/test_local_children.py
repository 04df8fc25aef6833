"""The processes that read models and training data do not have the server's secrets."""

import psutil

from tests.sagemaker_local.rig import IMAGE, ROLE, Server, job, variant

SECRETS = {
    "PLATFORM_POSTGRES_DSN": "postgresql://u:pl4nted@db/db",
    "SOMEBODYS_TOKEN": "pl4nted",
    "HTTPS_PROXY": "http://u:pl4nted@127.0.0.1:9",
    # Keeps the training process running.
    "EMBEDDED_SAGEMAKER_STARTING_SECONDS": "600",
}


def test_training_and_serving_processes_have_no_secret_of_the_server(
    own_server: Server, trained: str, store: str
) -> None:
    own_server.extra = {**own_server.extra, **SECRETS}
    own_server.start()
    container = {"Image": IMAGE, "ModelDataUrl": trained}
    own_server.sagemaker.create_model(
        ModelName="m", PrimaryContainer=container, ExecutionRoleArn=ROLE
    )
    own_server.deploy("c", variant("m"))
    own_server.sagemaker.create_training_job(**job("j", store))
    own_server.until("j", "Starting")

    assert own_server.process is not None
    environs: dict[str, dict[str, str]] = {}
    wanted = {"sagemaker_local.serving", "sagemaker_local.trainer"}
    while environs.keys() != wanted:
        for child in psutil.Process(own_server.process.pid).children():
            # A child that has not begun its own program shows the server's, or none.
            if (name := "".join(child.cmdline()[2:3])) in wanted:
                environs[name] = child.environ()
    for environ in environs.values():
        held = " ".join([*environ, *environ.values()])
        assert "pl4nted" not in held
        assert own_server.env["AWS_SECRET_ACCESS_KEY"] not in held
        assert not [name for name in environ if name.startswith(("AWS_", "EMBEDDED_"))]
