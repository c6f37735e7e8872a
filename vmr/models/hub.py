"""Files of the Hugging Face hub: fetched once, resumed where a download was cut off, found in the cache ever after."""

from pathlib import Path

from vmr.errors import ModelError


def download_file(repository: str, file: str) -> Path:
    """The local copy of `file` of the hub's `repository`, downloaded with a progress bar if it is not in the cache.

    HF_HOME and HF_HUB_OFFLINE mean what they mean to huggingface_hub. Raises ModelError, with the address, where there
    is no such file or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # from a misspelt name to a proxy that hangs up: one line either way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"{repository}/{file} cannot be had from the hub ({reason:.160}): download "
            f"https://huggingface.co/{repository}/resolve/main/{file} elsewhere and give the file's path"
        ) from error
