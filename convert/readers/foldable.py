"""The operators that are computed on constants: they make tensors of tensors, and nothing else.

A file decides what is called, so that the list is of what may be, not of what may not: among torch's
operators are some that open files, and some that write into their arguments without saying so.
"""

_MADE = """
    arange empty eye full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor
    zeros zeros_like tril triu
"""
_MOVED = """
    _reshape_alias _to_copy _unsafe_view alias broadcast_tensors cat chunk clone contiguous detach
    detach_ diagonal expand expand_as flatten flip gather index index_select lift_fresh_copy movedim
    narrow permute repeat repeat_interleave reshape roll select slice split split_with_sizes squeeze
    stack t to transpose type_as unbind unflatten unsqueeze view view_as pad constant_pad_nd
"""
_COMPUTED = """
    abs add addmm amax amin bitwise_and bitwise_not bitwise_or bmm ceil clamp clamp_max clamp_min cos
    cumsum div dot einsum eq exp expm1 floor floor_divide fmod ge gt inverse le log log1p logical_and
    logical_not logical_or lt matmul maximum mean minimum mm mul mv ne neg outer pow prod reciprocal
    relu remainder round rsqrt rsub sigmoid sign sin softmax softplus sqrt square std sub sum tanh
    true_divide trunc var where linalg_norm linalg_vector_norm norm _weight_norm linear max min argmax
    argmin
"""
FOLDABLE = frozenset(f"{_MADE} {_MOVED} {_COMPUTED}".split())
