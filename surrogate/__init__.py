"""Float spiking networks trained through time: surrogate gradients, threshold calibration, folding."""
