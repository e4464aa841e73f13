//! Step output: masking, timestamps, keeping and showing.
