"""mlrec's own code on a pretended GPU, where there is none.

Tensors on the pretended `cuda:0` hold real values in host memory. So all code runs, and its results
are compared with those of the CPU. As on a GPU, tensors of two devices cannot be mixed, and random
numbers come from a generator of the device. The moments at which the host waits for the device are
recorded: when it reads a number, and when it copies from memory that is not pinned.

It says nothing about kernels, speed, memory, streams or several GPUs.

    device.py         the tensors, and what each operation does on them
    kinds.py          operations that read, draw or index
    state.py          the device's generator, pinned memory
    waits.py          the record of the host's waits
    torch_patches.py  functions of torch that ask for a GPU
    lab.py            data set, folder and device, with a stand-in for DeepSpeed
    actions.py        steps, encoders and runs of mlrec, on either device
    checks.py         what is compared, and the waits of each step
    faults.py         planted faults, which the checks must find
    __main__.py       all of it in a process of its own: python -m pretended_gpu DATASET FOLDER
"""
