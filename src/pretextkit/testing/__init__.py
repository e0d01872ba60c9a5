"""The conformance kit for plug-in authors."""
