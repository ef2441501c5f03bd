"""Every kind of file with weights: what is in it comes out to the bit, and damage is named."""

import json
import pickle
import sys
import zipfile
from pathlib import Path

import foreign
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from bert_jax.errors import InputError
from bert_jax.interchange import hdf5, pickled, safetensors, source, tf_checkpoint, torchscript

ALL = foreign.tensors("pooler", "mlm", "next", "classifier", "span")


def arrays(found):
    return {name: stored.read() for name, stored in found.items()}


def assert_same(found, wanted=ALL):
    assert found.keys() == wanted.keys()
    for name, stored in found.items():
        array = stored.read()
        assert stored.shape == array.shape
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def write_safetensors(path):
    save_file(ALL, path)
    return path


def write_hdf5(path):
    h5py = pytest.importorskip("h5py", reason="h5py is an extra: pip install bert_jax[h5]")
    with h5py.File(path, "w") as file:
        for name, array in ALL.items():
            known, is_kernel = foreign.keras_name(name)
            file[known] = array.T if is_kernel else array
    return path


WRITERS = {
    "safetensors": write_safetensors,
    "PyTorch": lambda path: foreign.write_torch(path, ALL),
    "PyTorch before 1.6": lambda path: foreign.write_old_torch(path, ALL),
    "TorchScript": lambda path: foreign.write_torchscript(path, ALL),
    "HDF5": write_hdf5,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_kind_of_a_file_is_found_by_looking(kind, tmp_path):
    foreign.write_description(tmp_path)
    path = WRITERS[kind](tmp_path / "weights")  # a name that says nothing
    found = source.find(path, config="", tokenizer="")
    assert kind.startswith(found.kind)
    assert (found.config, found.tokenizer) == (tmp_path / "config.json", tmp_path)
    if kind == "HDF5":  # which calls a norm's scale gamma, as the names' table knows
        translated = {
            name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): array
            for name, array in ALL.items()
        }
        assert_same(found.tensors, translated)
    else:
        assert_same(found.tensors)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_shards_are_put_together(name, tmp_path):
    foreign.write_description(tmp_path)
    stem, end = name.rsplit(".", 1)
    parts = {}
    for number, wanted in ((1, "bert.embeddings"), (2, "")):
        file = f"{stem}-0000{number}-of-00002.{end}"
        shard = {k: v for k, v in ALL.items() if k.startswith(wanted) and k not in parts}
        parts |= dict.fromkeys(shard, file)
        if end == "bin":
            foreign.write_torch(tmp_path / file, shard)
        else:
            save_file(shard, tmp_path / file)
    (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": parts}))
    assert_same(source.find(tmp_path, config="", tokenizer="").tensors)
    (tmp_path / f"{stem}-00001-of-00002.{end}").unlink()
    with pytest.raises(InputError, match=rf"index\.json names {stem}-00001-of-00002\.{end}, which"):
        source.find(tmp_path, config="", tokenizer="")


def test_a_shard_that_lacks_a_tensor_is_named(tmp_path):
    foreign.write_description(tmp_path)
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "one.safetensors")
    parts = {"a": "one.safetensors", "b": "one.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    with pytest.raises(InputError, match=r"one\.safetensors does not hold b"):
        source.find(tmp_path, config="", tokenizer="")


def test_the_best_of_several_files_is_taken(tmp_path):
    foreign.write_description(tmp_path)
    write_safetensors(tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"other")
    assert source.find(tmp_path, config="", tokenizer="").kind == "safetensors"


def test_several_files_without_a_known_name_are_named(tmp_path):
    for name in ("a.pt", "b.pt"):
        foreign.write_torch(tmp_path / name, ALL)
    with pytest.raises(InputError, match=r"holds a\.pt and b\.pt: name the file"):
        source.find(tmp_path, config="", tokenizer="")


@pytest.mark.parametrize(
    ("kind", "dtype"), [("HalfStorage", np.float16), ("DoubleStorage", np.float64)]
)
def test_torch_tensors_of_other_types(kind, dtype, tmp_path):
    wanted = {"a": np.arange(6, dtype=dtype).reshape(2, 3)}
    found = arrays(pickled.read(foreign.write_torch(tmp_path / "a", wanted, kind)))
    assert found["a"].dtype == dtype
    np.testing.assert_array_equal(found["a"], wanted["a"])


def test_bfloat16_comes_out_as_the_same_numbers(tmp_path):
    numbers = np.array([1.0, -2.5, 3.14], ml_dtypes.bfloat16)
    foreign.write_torch(tmp_path / "a", {"a": numbers.view(np.uint16)}, "BFloat16Storage")
    save_file({"a": numbers}, tmp_path / "b")
    for found in (pickled.read(tmp_path / "a"), safetensors.read(tmp_path / "b")):
        array = found["a"].read()
        assert array.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(array.astype(np.float32), [1.0, -2.5, 3.140625])


def test_a_view_of_a_storage_is_read_by_its_strides(tmp_path):
    storage = np.arange(8, dtype=np.float32).reshape(2, 4)
    path = foreign.write_torch(tmp_path / "a", {"a": storage}, strides=(1, 2))
    # The tensor of this shape whose element (i, j) is number i + 2 j of the storage.
    np.testing.assert_array_equal(pickled.read(path)["a"].read(), [[0, 2, 4, 6], [1, 3, 5, 7]])


@pytest.mark.parametrize("view", [{"offset": 1}, {"offset": -1}, {"strides": (4, 2)}])
def test_a_view_outside_of_its_storage_is_damage(view, tmp_path):
    storage = np.arange(8, dtype=np.float32).reshape(2, 4)
    path = foreign.write_torch(tmp_path / "a", {"a": storage}, **view)
    with pytest.raises(InputError, match="a is truncated or damaged"):
        pickled.read(path)


class Evil:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        return (sys.exit, ("the pickle has run",))


@pytest.mark.parametrize("form", ["stream", "archive", "TorchScript"])
def test_a_pickle_that_wants_to_run_code_is_refused_unread(form, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    content = pickle.dumps({"weight": Evil()}, 2)
    if form == "stream":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", content)
            if form == "TorchScript":
                archive.writestr("model/constants.pkl", b"")
    read = torchscript.read if form == "TorchScript" else pickled.read
    with pytest.raises(InputError, match=r"pytorch_model\.bin is a pickle that wants sys\.exit"):
        read(path)


@pytest.mark.parametrize(
    "wanted",
    [
        "os system",
        "builtins eval",
        "torch load",
        "torch._utils _rebuild_qtensor",
        "collections deque",
        "__torch__ Model",
    ],
)
def test_a_pickle_may_name_tensors_only(wanted, tmp_path):
    module, name = wanted.split()
    path = tmp_path / "a"
    path.write_bytes(f"\x80\x02c{module}\n{name}\n.".encode("latin-1"))
    with pytest.raises(InputError, match=rf"wants {module}\.{name}"):
        pickled.read(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_truncated_file_is_named(kind, tmp_path):
    foreign.write_description(tmp_path)
    path = WRITERS[kind](tmp_path / "weights")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"weights is truncated or damaged .*: fetch it again"):
        arrays(source.find(path, config="", tokenizer="").tensors)


def test_a_pointer_in_place_of_the_weights_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match=r"is not the weights but a pointer.*git lfs pull"):
        source.find(tmp_path, config="", tokenizer="")


def test_the_current_directory_is_looked_into(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"--from=\. holds no weights"):
        source.find(Path("."), config="", tokenizer="")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--from=.*holds no weights"):
        source.find(tmp_path, config="", tokenizer="")
    with pytest.raises(InputError, match=r"--from=.*/none does not exist"):
        source.find(tmp_path / "none", config="", tokenizer="")
    write_safetensors(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"holds no config\.json.*--model_config=FILE"):
        source.find(tmp_path, config="", tokenizer="")
    found = source.find(tmp_path, config="a.json", tokenizer="b")
    assert (str(found.config), str(found.tokenizer)) == ("a.json", "b")


def test_names_of_the_original_release():
    for name in ALL:
        known, is_kernel = foreign.original_name(name)
        found, is_turned = tf_checkpoint.translate(known)
        assert found.replace("gamma", "weight").replace("beta", "bias") == name
        assert is_turned == is_kernel, name


def test_a_checkpoint_of_the_original_release(tmp_path):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is an extra")
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for name, array in ALL.items():
            known, is_kernel = foreign.original_name(name)
            v1.get_variable(known, initializer=array.T if is_kernel else array)
            v1.get_variable(f"{known}/adam_m", initializer=np.zeros_like(array))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "bert_model.ckpt"), write_meta_graph=False)
    (tmp_path / "bert_config.json").write_text(json.dumps(foreign.config()))
    found = source.find(tmp_path, config="", tokenizer="")
    assert found.is_original
    weights = {
        name.replace("gamma", "weight").replace("beta", "bias"): stored
        for name, stored in found.tensors.items()
        if "adam_m" not in stored.source
    }
    assert_same(weights)


@pytest.mark.parametrize(
    ("reader", "library", "mend"),
    [
        (hdf5.read, "h5py", "pip install h5py"),
        (tf_checkpoint.read, "tensorflow", "pip install ten"),
    ],
)
def test_a_missing_library_is_named(reader, library, mend, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"a cannot be read without .*{mend}"):
        reader(tmp_path / "a")
