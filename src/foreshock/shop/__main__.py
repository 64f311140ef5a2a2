"""`python -m foreshock.shop`: play two seconds, so that the kernels are compiled and on disk."""

from foreshock.shop.shop import Shop

if __name__ == "__main__":
    Shop().advance(2)
