"""`python -m flows`: run `gan-training` once, on the server that PREFECT_API_URL names, or without one."""

from flows.training import gan_training

if __name__ == "__main__":
    gan_training()
