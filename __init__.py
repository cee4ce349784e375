"""MVDiffusion for ComfyUI: several views of a scene denoised together and joined into a panorama."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The host calls this once and asks the extension that it returns for the pack's nodes."""
    from .nodes import MVDiffusionExtension

    return MVDiffusionExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
