"""Models behind OpenAI-compatible endpoints: how one is asked, and the backend that gates one."""
