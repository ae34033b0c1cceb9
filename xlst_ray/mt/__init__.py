"""Machine translation: the `Translator` protocol, its engines, label files, and training one of our own."""
