"""Images: files, pixels, MATLAB's bicubic, metrics, pictures of comparisons."""
