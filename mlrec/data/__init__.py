"""The data side: format, sequences, plan, item store, decoding, stream."""
