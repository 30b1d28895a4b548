import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastent as fe
from fastent.activations.masks import read_mask
from tests.padded import LENGTHS, POOLINGS, WIDTH, Words, by_hand, captured, kept, same, sentences

N = len(LENGTHS)


class Linear(nn.Module):
    """Takes whatever else is in the batch."""

    def __init__(self, **_):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 4)

    def forward(self, x, **_):
        return self.layer(x)


class Strict(Linear):
    def forward(self, x):
        return self.layer(x)


def features(n=N):
    return torch.randn(n, WIDTH, 3, generator=torch.Generator().manual_seed(2))


def forms_of_masks():
    mask = kept()
    below = torch.where(mask, 0.0, float("-inf"))
    least = torch.where(mask, 0.0, torch.finfo(torch.float16).min).half()
    causal = mask[:, None, None] & torch.ones(WIDTH, WIDTH, dtype=torch.bool).tril()
    return {
        "attention_mask": [
            mask, mask.int(), mask.double(), below, least, mask[:, None], mask[:, None, None], below[:, None, None],
            mask[:, None, None].expand(-1, 2, WIDTH, -1), causal, torch.where(causal, 0.0, -1e9), causal.expand(-1, 2, -1, -1),
        ],
        "text_attention_mask": [mask],
        "encoder_attention_mask": [mask],
        "key_padding_mask": [~mask, below, (~mask).long()],
        "src_key_padding_mask": [~mask],
        "memory_key_padding_mask": [~mask],
        "tgt_key_padding_mask": [~mask],
        "padding_mask": [~mask, below],
        "lengths": [LENGTHS],
        "input_lengths": [LENGTHS.int()],
    }  # fmt: skip


@pytest.mark.parametrize("kind", [Linear, Strict])
@pytest.mark.parametrize(("name", "mask"), [(name, mask) for name, masks in forms_of_masks().items() for mask in masks])
def test_names_and_forms_of_masks(tmp_path, name, mask, kind):
    """Taken by the model or not: a mask of these names is never an unexpected argument."""
    model, X = kind(), features()
    for pooling in ("mean", "last", "tokens"):
        found = captured(tmp_path, model, [{"x": X, name: mask}], "layer", pooling)
        same(found, by_hand(model.layer(X), kept(), pooling))


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("attention_mask", torch.ones(N, WIDTH)),
        ("attention_mask", torch.zeros(N, 1, 1, WIDTH)),
        ("attention_mask", nn.Transformer.generate_square_subsequent_mask(WIDTH)),
        ("attn_mask", torch.ones(WIDTH, WIDTH, dtype=torch.bool).triu(1)),
        ("src_mask", torch.ones(WIDTH, WIDTH).tril()),
        ("tgt_mask", nn.Transformer.generate_square_subsequent_mask(WIDTH)),
        ("global_attention_mask", kept()),
        ("special_tokens_mask", kept()),
        ("key_padding_mask", torch.zeros(N, WIDTH)),
    ],
)
def test_what_hides_nothing_or_is_no_mask_of_padding(tmp_path, name, mask):
    """As many inputs as tokens: a mask of which token sees which has the shape of one of padding."""
    assert N == WIDTH
    model, X = Linear(), features()
    same(captured(tmp_path, model, [{"x": X, name: mask}], "layer"), model.layer(X).mean(1))


@pytest.mark.parametrize(
    ("name", "mask", "message"),
    [
        ("mask", kept(), "mask is not used .* does not say whether 1 means padding: call it attention_mask"),
        ("attn_mask", kept(), "attn_mask is not used"),
        ("padding_mask", kept().long(), "padding_mask is not used"),
        ("src_mask", kept()[:, None], "src_mask is not used"),
        ("attention_mask", kept()[:, :4], r"attention_mask of shape \(6, 4\) does not fit layer 'layer', whose positions are"),
        ("attention_mask", torch.ones(N, N).tril(), "is lower triangular: it is used as a padding mask"),
        ("input_lengths", LENGTHS * 4, "input_lengths of shape .* does not fit"),
    ],
)
def test_what_cannot_be_told_is_said(tmp_path, name, mask, message):
    with pytest.warns(UserWarning, match=message):
        captured(tmp_path, Linear(), [{"x": features(), name: mask}], "layer")


@pytest.mark.parametrize("pooling", ["last", "tokens"])
def test_a_mask_of_other_tokens_is_refused_where_it_is_needed(tmp_path, pooling):
    with pytest.raises(fe.FastentError, match="cannot tell its tokens from padding"):
        captured(tmp_path, Linear(), [{"x": features(), "attention_mask": kept()[:, :4]}], "layer", pooling)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_mask_that_leaves_nothing_is_refused(tmp_path, pooling):
    batch = {"x": features(), "attention_mask": ~kept()}
    with pytest.raises(fe.FastentError, match=r"attention_mask leaves no token of input 3 of a batch: drop .* or invert it"):
        captured(tmp_path, Linear(), [batch], "layer", pooling)


def heard(call):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in said]


@pytest.mark.parametrize(
    ("side", "pooling", "warned"),
    [
        ("right", "mean", True), ("right", "cls", False), ("right", "last", True), ("right", "tokens", True),
        ("left", "mean", True), ("left", "cls", True), ("left", "last", False), ("left", "tokens", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("known", [True, False])
def test_inputs_that_look_padded_and_have_no_mask(tmp_path, side, pooling, warned, known):
    model, (ids, _) = Words(), sentences(side)
    model.embed.padding_idx = 0 if known else None
    said = heard(lambda: captured(tmp_path, model, [ids], "layer", pooling))
    assert len(said) == warned
    assert all("the inputs look padded with 0, without a mask" in each and "add an attention_mask" in each for each in said)


def test_features_that_look_padded_and_have_no_mask(tmp_path):
    X = features() * kept()[:, :, None]
    assert "the last steps of some inputs are zeros" in heard(lambda: captured(tmp_path, Linear(), [X], "layer"))[0]
    assert not heard(lambda: captured(tmp_path, Linear(), [features()], "layer"))
    assert not heard(lambda: captured(tmp_path, Linear(), [torch.zeros(3, 4, 3), features()], "layer"))


def test_full_sentences_are_not_padded(tmp_path):
    ids = torch.randint(1, 30, (20, 8), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = 2  # as the end of each
    assert not heard(lambda: captured(tmp_path, Words(), [ids], "layer"))


def test_a_mask_among_the_labels_is_said(tmp_path):
    with pytest.warns(UserWarning, match="if they are a mask, yield mappings"):
        captured(tmp_path, Linear(), [(features(), kept())], "layer")


# Masks that the model makes


class Inside(nn.Module):
    """Finds its padding by itself."""

    def __init__(self, nested):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.embed, self.norm = nn.Embedding(30, 8, padding_idx=0), nn.LayerNorm(8)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)

    def forward(self, ids):
        return self.norm(self.encoder(self.embed(ids), src_key_padding_mask=ids == 0))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("size", [1, 4, 6])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_masks_that_a_model_passes_to_its_parts(tmp_path, pooling, size, nested):
    """Of torch's encoder, whose layers put out nested tensors on its fast path."""
    model, (ids, mask) = Inside(nested), sentences()
    plain = Inside(False)  # in training mode, which has no fast path
    embedded = plain.embed(ids)
    first = plain.encoder.layers[0](embedded, src_key_padding_mask=~mask)
    last = plain.encoder.layers[1](first, src_key_padding_mask=~mask)
    expected = {"embed": embedded, "encoder.layers.0": first, "encoder.layers.1": last, "norm": plain.norm(last)}
    store = fe.capture(model, list(ids.split(size)), list(expected), tmp_path, pooling=pooling, dtype="float32")
    for name, rows in expected.items():
        same(store.layer(name)[:], by_hand(rows, mask, pooling))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_layers_are_flattened_to_the_width_of_the_mask(tmp_path):
    model, (ids, mask) = Inside(True), sentences()
    whole = captured(tmp_path, model, [ids], "encoder.layers.0", "flatten")
    assert whole.shape == (N, WIDTH * 8)
    same(whole, captured(tmp_path, model, list(ids.split(2)), "encoder.layers.0", "flatten"))
    assert not whole.reshape(N, WIDTH, 8)[~mask.numpy()].any()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_nested_tensors(tmp_path, layout, pooling):
    model, X = Strict(), features()
    batch = torch.nested.nested_tensor([row[:length] for row, length in zip(X, LENGTHS)], layout=layout)
    store = fe.capture(model, [(batch, torch.arange(N))], ["layer"], tmp_path, pooling=pooling, dtype="float32")
    same(store.layer()[:], by_hand(model.layer(X), kept(), pooling))
    assert store.labels is not None


class Recurrent(nn.Module):
    def __init__(self, batch_first, packs):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.packs = batch_first, packs
        self.rnn, self.head = nn.LSTM(3, 4, batch_first=batch_first), nn.Linear(4, 2)

    def forward(self, x, lengths):
        x = x if self.first else x.transpose(0, 1)
        if self.packs:
            found = self.rnn(pack_padded_sequence(x, lengths, self.first, enforce_sorted=False))[0]
            return self.head(pad_packed_sequence(found, self.first)[0])
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_packed_sequences_and_lengths(tmp_path, pooling, packs, batch_first):
    model, X, lengths = Recurrent(batch_first, packs), features(5), LENGTHS[:5]
    plain = nn.LSTM(3, 4, batch_first=True)
    plain.load_state_dict(model.rnn.state_dict())
    rows = plain(X)[0]
    for name, expected in (("rnn", rows), ("head", model.head(rows))):
        batches = [{"x": X[:3], "lengths": lengths[:3]}, {"x": X[3:], "lengths": lengths[3:]}]
        same(captured(tmp_path, model, batches, name, pooling), by_hand(expected, kept(lengths), pooling))


# Encoder and decoder


class Translator(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        torch.manual_seed(0)
        self.first = batch_first
        self.both, self.head = nn.Transformer(8, 2, 2, 2, 16, 0.0, batch_first=batch_first), nn.Linear(8, 2)

    def forward(self, src, tgt, **masks):
        src, tgt = (src, tgt) if self.first else (src.transpose(0, 1), tgt.transpose(0, 1))
        return self.head(self.both(src, tgt, **masks))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "last", "tokens"])
def test_an_encoders_masks_are_not_its_decoders(tmp_path, pooling, batch_first):
    """As many tokens on both sides: the shapes tell nothing. Five inputs: of 6, steps could not be told from them."""
    model, plain = Translator(batch_first), Translator(True)
    g = torch.Generator().manual_seed(0)
    src, tgt = torch.randn(5, WIDTH, 8, generator=g), torch.randn(5, WIDTH, 8, generator=g)
    ours, theirs = kept(LENGTHS[:5]), kept(LENGTHS[:5].flip(0))
    encoder, decoder = plain.both.encoder, plain.both.decoder
    memory = encoder(src, src_key_padding_mask=~ours)
    first = decoder.layers[0](tgt, memory, tgt_key_padding_mask=~theirs, memory_key_padding_mask=~ours)
    last = decoder.layers[1](first, memory, tgt_key_padding_mask=~theirs, memory_key_padding_mask=~ours)
    expected = {
        "both.encoder": (memory, ours),
        "both.encoder.layers.1": (encoder.layers[1](encoder.layers[0](src, None, ~ours), None, ~ours), ours),
        "both.decoder.layers.0": (first, theirs),
        "both.decoder.layers.1.norm3": (last, theirs),
        "both.decoder": (decoder.norm(last), theirs),
        "head": (plain.head(decoder.norm(last)), theirs),
    }
    masks = {"src_key_padding_mask": ~ours, "tgt_key_padding_mask": ~theirs, "memory_key_padding_mask": ~ours}
    for name, (rows, mask) in expected.items():
        found = captured(tmp_path, model, [{"src": src, "tgt": tgt} | masks], name, pooling)
        same(found, by_hand(rows, mask, pooling))


class Seq2Seq(nn.Module):
    """The names of transformers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder, self.head = Words(4), Words(4), nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask=None, decoder_input_ids=None, decoder_attention_mask=None):
        self.encoder(input_ids)
        return self.head(self.decoder.layer(self.decoder.embed(decoder_input_ids)))


def test_a_decoder_without_a_mask_of_its_own_is_said(tmp_path):
    model, (ids, mask) = Seq2Seq(), sentences()
    theirs = kept(LENGTHS.flip(0))
    given = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids.flip(0)}
    rows = model.decoder.layer(model.decoder.embed(ids.flip(0)))
    same(
        captured(tmp_path, model, [given | {"decoder_attention_mask": theirs}], "decoder.layer"), by_hand(rows, theirs, "mean")
    )
    same(
        captured(tmp_path, model, [given], "encoder.layer"),
        by_hand(model.encoder.layer(model.encoder.embed(ids)), mask, "mean"),
    )
    with pytest.warns(UserWarning, match="look padded with 0, without a mask.*decoder_attention_mask"):
        captured(tmp_path, model, [given], "decoder.layer")


def test_two_masks_that_differ(tmp_path):
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.document = Words(), Words()

        def forward(self, query, document, **_):
            return self.query(query), self.document(document)

    model, (ids, mask) = Towers(), sentences()
    masks = {"query_attention_mask": mask, "document_attention_mask": mask.flip(0)}
    batch = {"query": ids, "document": ids.flip(0)} | masks
    rows = model.query.layer(model.query.embed(ids))
    same(captured(tmp_path, model, [batch], "query.layer"), by_hand(rows, mask, "mean"))
    with pytest.warns(UserWarning, match="query_attention_mask and document_attention_mask differ and all fit layer 'layer'"):
        captured(tmp_path, Linear(), [{"x": features()} | masks], "layer")


# Models of transformers


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 30}


def outputs(model, layers, **inputs):
    """What layers put out, by hooks of our own."""
    found, modules = {}, dict(model.named_modules())

    def keep(name):
        return lambda module, given, output: found.update({name: output[0] if isinstance(output, tuple) else output})

    hooks = [modules[name].register_forward_hook(keep(name)) for name in layers]
    with torch.no_grad():
        model.eval()(**inputs)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_decoder_alone_has_the_mask_of_its_inputs(tmp_path, transformers, side, pooling):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32, "word_embed_proj_dim": 16}
    model, (ids, mask) = transformers.OPTModel(transformers.OPTConfig(vocab_size=30, **shape)), sentences(side)
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    rows = outputs(model, ["decoder.layers.1"], **inputs)["decoder.layers.1"]
    found = captured(tmp_path, model, [transformers.BatchEncoding(inputs)], "decoder.layers.1", pooling)
    same(found, by_hand(rows, mask, pooling))


def test_both_sides_of_a_model_of_transformers(tmp_path, transformers):
    torch.manual_seed(0)
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=30)
    model, (ids, mask) = transformers.T5Model(config), sentences()
    theirs = kept(LENGTHS.flip(0))
    keys = "decoder.block.0.layer.1.EncDecAttention.k"  # which the decoder makes of the encoder's tokens
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    inputs |= {"decoder_input_ids": ids.flip(0), "decoder_attention_mask": theirs.long()}
    layers = {"encoder.block.0": mask, "decoder.block.0": theirs, keys: mask}
    found = outputs(model, layers, **inputs)
    for name, kept_here in layers.items():
        same(captured(tmp_path, model, [inputs], name), by_hand(found[name], kept_here, "mean"))


def test_frames_of_speech_have_the_mask_that_the_model_makes_of_that_of_samples(tmp_path, transformers):
    torch.manual_seed(0)
    convolutions = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "feat_extract_norm": "layer"}
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SMALL, **convolutions, **positions))
    samples = torch.arange(300) < torch.tensor([[300], [120], [200]])
    inputs = {"input_values": torch.randn(3, 300) * samples, "attention_mask": samples.long()}
    layers = ["feature_projection", "encoder.layers.1"]
    found = outputs(model, layers, **inputs)
    for name in layers:
        rows = found[name]
        frames = model._get_feature_vector_attention_mask(rows.shape[1], inputs["attention_mask"])
        same(captured(tmp_path, model, [inputs], name), by_hand(rows, frames, "mean"))
    with pytest.warns(UserWarning, match=r"attention_mask of shape \(3, 300\) does not fit"):
        captured(tmp_path, model, [inputs], "feature_extractor.conv_layers.0")


def test_a_mask_of_text_is_none_of_pictures(tmp_path, transformers):
    """Even if there are as many patches, with the class token, as tokens."""
    torch.manual_seed(0)
    shape = {**SMALL, "projection_dim": 8}
    vision = {name: SMALL[name] for name in SMALL if name != "vocab_size"} | {"image_size": 10, "patch_size": 5}
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=shape, vision_config=vision, projection_dim=8))
    ids, mask = sentences()
    ids, mask = ids[[1, 1, 0], :5], mask[[1, 1, 0], :5]
    inputs = {"input_ids": ids, "attention_mask": mask.long(), "pixel_values": torch.randn(3, 3, 10, 10)}
    layers = {"vision_model.encoder.layers.1": torch.ones(3, 5), "text_model.encoder.layers.1": mask}
    found = outputs(model, layers, **inputs)
    for name, keep in layers.items():
        assert found[name].shape[1] == 5
        same(captured(tmp_path, model, [inputs], name), by_hand(found[name], keep, "mean"))


@pytest.mark.parametrize("mask", [[[1.0, -1.0, -1.0]], [[1.0, float("nan"), 1.0]], [[0.0, -1.0, -100.0]], [[1, -1, 0]]])
def test_values_that_are_neither_flags_nor_added_are_refused(mask):
    with pytest.raises(fe.FastentError, match=r"mask 'attention_mask' holds (-1|nan): 1 for tokens and 0 for padding"):
        read_mask("attention_mask", torch.tensor(mask), 1)


def test_a_mask_of_zeros_is_added_and_hides_nothing():
    for shape in ((2, 3), (2, 1, 1, 3)):
        assert read_mask("attention_mask", torch.zeros(shape), 2).keep.all()
