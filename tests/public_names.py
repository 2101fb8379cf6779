"""Names and shapes of the public state_dicts (spec/models.md sections 2 and 3), for any size: (name, shape) in their order.

BEATs is without the aliases of its shared table of relative positions; beats_aliases() lists them. tests/e2e/test_import.py
compares the full sizes with the tables of the golden data.
"""


def linear(name, n_in, n_out, bias=True):
    return [(f"{name}.weight", (n_out, n_in))] + ([(f"{name}.bias", (n_out,))] if bias else [])


def norm(name, n):
    return [(f"{name}.weight", (n,)), (f"{name}.bias", (n,))]


def vit(dim, depth, mlp, qkv_bias):
    out = []
    for i in range(depth):
        b = f"blocks.{i}."
        out += norm(b + "norm1", dim) + linear(b + "attn.qkv", dim, 3 * dim, qkv_bias) + linear(b + "attn.proj", dim, dim)
        out += norm(b + "norm2", dim) + linear(b + "mlp.fc1", dim, mlp) + linear(b + "mlp.fc2", mlp, dim)
    return out


def atst(dim=768, depth=12, mlp=3072, prefix="atst."):
    out = [("mask_embed", (1, 1, dim)), ("pos_embed", (1, 251, dim))] + linear("patch_embed.patch_embed", 256, dim)
    return [(prefix + n, s) for n, s in out + vit(dim, depth, mlp, False) + norm("norm_frame", dim)]


def fpasst(dim=768, depth=12, mlp=3072, prefix=""):
    out = [("cls_token", (1, 1, dim)), ("dist_token", (1, 1, dim)), ("new_pos_embed", (1, 2, dim)),
           ("freq_new_pos_embed", (1, dim, 1, 1)), ("time_new_pos_embed", (1, dim, 1, 250))]
    for i, (a, b) in enumerate(((1, 16), (16, 32), (32, 64)), 1):
        out += [(f"conv_in_{i}.weight", (b, a, 3, 3)), (f"conv_in_{i}.bias", (b,))]
    out += [("patch_embed.proj.weight", (dim, 16, 128, 2)), ("patch_embed.proj.bias", (dim,))]
    return [(prefix + n, s) for n, s in out + vit(dim, depth, mlp, True) + norm("norm", dim)]


def beats(dim=768, depth=12, mlp=3072, heads=12, patch=512, groups=16, taps=128, buckets=320, prefix="model."):
    conv = "encoder.pos_conv.0."
    out = linear("post_extract_proj", patch, dim) + [("patch_embedding.weight", (patch, 1, 16, 16)), (conv + "bias", (dim,)),
           (conv + "parametrizations.weight.original0", (1, 1, taps)),
           (conv + "parametrizations.weight.original1", (dim, dim // groups, taps))]
    for i in range(depth):
        b = f"encoder.layers.{i}."
        a = b + "self_attn."
        out += [(a + "grep_a", (1, heads, 1, 1))]
        out += [(a + "relative_attention_bias.weight", (buckets, heads))] if i == 0 else []
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            out += linear(a + name, dim, dim)
        out += linear(a + "grep_linear", dim // heads, 8) + norm(b + "self_attn_layer_norm", dim)
        out += linear(b + "fc1", dim, mlp) + linear(b + "fc2", mlp, dim) + norm(b + "final_layer_norm", dim)
    return [(prefix + n, s) for n, s in out + norm("encoder.layer_norm", dim) + norm("layer_norm", patch)]


def beats_aliases(depth=12, prefix="model."):
    """(alias, the name it follows, the name whose tensor it is)"""
    a = prefix + "encoder.layers.{}.self_attn."
    return [(a.format(i) + "relative_attention_bias.weight", a.format(i) + "grep_linear.bias",
             a.format(0) + "relative_attention_bias.weight") for i in range(1, depth)]


def sed(transformer, embed, wrapper_in=None, filters=(16, 32, 64, 128, 128, 128, 128), cells=256, classes=27):
    """transformer: its entries, names behind as_model.[model.]; wrapper_in: width in front of the 527 head; embed: behind it."""
    out, c = [], 1
    for i, f in enumerate(filters):
        out += [(f"cnn.cnn.conv{i}.weight", (f, c, 3, 3)), (f"cnn.cnn.conv{i}.bias", (f,))]
        out += norm(f"cnn.cnn.batchnorm{i}", f)
        out += [(f"cnn.cnn.batchnorm{i}.running_mean", (f,)), (f"cnn.cnn.batchnorm{i}.running_var", (f,)),
                (f"cnn.cnn.batchnorm{i}.num_batches_tracked", ())]
        out += linear(f"cnn.cnn.cg{i}.linear", f, f)
        c = f
    for layer in range(2):
        for way in ("", "_reverse"):
            n = cells if layer == 0 else 2 * cells
            for kind, shape in (("weight_ih", (3 * cells, n)), ("weight_hh", (3 * cells, cells)), ("bias_ih", (3 * cells,)),
                                ("bias_hh", (3 * cells,))):
                out.append((f"rnn.rnn.{kind}_l{layer}{way}", shape))
    out += linear("dense", 2 * cells, classes) + linear("dense_softmax", 2 * cells, classes)
    out += [("as_model." + n, s) for n, s in transformer]
    out += linear("as_model.head_linear_layer", wrapper_in, embed) if wrapper_in else []
    return out + linear("cat_tf", c + embed, cells)
