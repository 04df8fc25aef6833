"""A published model, wherever its files are."""

from dataclasses import dataclass

from resources.s3 import Publication, Published

ARTIFACT = "model.tar.gz"
MAX_ARTIFACT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class PublishedModel:
    """A model's artifact, and what its manifest says of it.

    Attributes:
        files: In the folder of its date, or in one of an endpoint (see `deployed_models.py`).
    """

    files: Published

    @property
    def date(self) -> str:
        """The date that it was made for."""
        return self.files.manifest.partition

    @property
    def sha256(self) -> str:
        """Of its artifact: its data version."""
        return self.files.manifest.file(ARTIFACT).sha256

    @property
    def artifact_uri(self) -> str:
        """The s3:// address of its artifact."""
        return self.files.folder.file_uri(ARTIFACT)

    @property
    def passed(self) -> bool:
        """Whether it is above its gate's floor."""
        return bool(self.files.manifest.extra.get("passed"))

    def add_to(self, publication: Publication) -> None:
        """Put its files into another folder.

        Raises:
            ObjectChangedError: The date was made again meanwhile.
        """
        for file in self.files.manifest.files:
            publication.put(file.name, self.files.read(file.name, max_bytes=MAX_ARTIFACT_BYTES))
