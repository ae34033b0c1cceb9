"""Audio: decoding, Kaldi filterbanks, augmentation."""
