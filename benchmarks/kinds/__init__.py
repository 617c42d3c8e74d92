"""The groups beyond permutations that are found in torchvision, timm and transformers."""
