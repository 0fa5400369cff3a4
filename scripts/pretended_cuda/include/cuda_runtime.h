// device.h, which is included before everything else, has what this header of NVIDIA's gives.
