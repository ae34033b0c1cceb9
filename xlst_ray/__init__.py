"""Low-resource speech recognition by speech-translation transfer, on Ray."""
