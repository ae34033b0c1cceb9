"""The model: subsampler, encoder, decoder, CTC head, transfer plan, beam search. Torch only."""
