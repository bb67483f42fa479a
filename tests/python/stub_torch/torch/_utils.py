class Tensor:
    def __init__(self, shape, value):
        self.shape, self.value = tuple(shape), value

    def __reduce__(self):
        return _rebuild_tensor_v2, (self.shape, self.value)

    def dim(self):
        return len(self.shape)

    def detach(self):
        return self

    def clone(self):
        return Tensor(self.shape, self.value)

    def contiguous(self):
        return self


def _rebuild_tensor_v2(shape, value):
    return Tensor(shape, value)


def _rebuild_parameter(data, requires_grad, hooks):
    return data
