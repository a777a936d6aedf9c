"""Gate a multimodal LLM on forgetting: does it still classify images as well as its own vision encoder?"""

__version__ = "0.1.0"
