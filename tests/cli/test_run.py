"""``pulsify run``: recordings through a model, what is written, and what does not fit."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from pulsify import signals
from tests.cli.conftest import Cli, conv, failed, write, wrong_conv
from tests.graphs import G


def audio_model(channels: Any = 1, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """[channels, S] samples, every second one kept of a window of 4 (of float), as [channels, 1, T]; delay 1."""
    g = G()
    x = g.input("audio", [channels, "S"], dtype)
    if dtype != TensorProto.FLOAT:
        x = g("Cast", x, to=TensorProto.FLOAT)
    x = g("Unsqueeze", x, g.ints(1))
    return g.model(g("Conv", x, g.const(np.full((1, 1, 4), 0.25, np.float32)), strides=[2], pads=[1, 1]))


def write_wav(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    """int16 samples [frames, channels]."""
    with wave.open(str(path), "wb") as f:
        f.setnchannels(samples.shape[1])
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(samples.astype("<i2").tobytes())
    return path


def noise(frames: int, channels: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-20000, 20000, (frames, channels)).astype(np.int16)


def batch(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)


@pytest.fixture
def x(tmp_path: Path) -> np.ndarray:
    array = np.random.default_rng(0).standard_normal((1, 8, 57)).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    return array


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_a_batch_model_on_the_fly(cli: Cli, model: Path, x: np.ndarray, chunk: int) -> None:
    done = cli("run", "model.onnx", "x.npy", "--pulse", "4", "--chunk", str(chunk), "--compare", "model.onnx", "-o", "y.npy")
    assert (done.code, done.err) == (0, "")
    (want,) = batch(model, x=x)
    assert np.allclose(np.load("y.npy"), want, atol=1e-5) and np.load("y.npy").shape == want.shape
    assert done.lines[0] == "x.npy through model.onnx -> y.npy"
    assert f"fed           in {-(-57 // chunk)} chunk" in done.out and f" of {chunk} frame" in done.out
    assert "compared      every frame agrees with the batch model" in done.lines
    assert sorted(p.name for p in model.parent.iterdir()) == ["model.onnx", "x.npy", "y.npy"]


def test_a_pulsed_model_and_json(cli: Cli, model: Path, x: np.ndarray) -> None:
    cli("model.onnx", "--pulse", "4", "-q")
    done = cli("run", "model.p4.onnx", "x.npy", "--rate", "100", "--json", "--compare", "model.onnx")
    found = done.json
    assert (found["frames"], found["pulse"], found["chunk"], found["chunks"]) == (57, 4, 4, 15)
    assert found["outputs"][0]["shape"] == [1, 8, 55] and found["worst_error"] < 1e-5
    assert found["real_time_factor"] == pytest.approx(found["seconds"] / 0.57, abs=1e-6)  # seconds are rounded to one of these
    assert cli("run", "model.p4.onnx", "x.npy", "-q").out == ""
    failed(cli("run", "model.p4.onnx", "x.npy", "--pulse", "8"), 2, "a pulse of 8 frames", "this model takes 4")


def test_a_dynamic_pulse_is_chosen_per_call(cli: Cli, model: Path, x: np.ndarray) -> None:
    cli("model.onnx", "-q")
    assert cli("run", "model.pP.onnx", "x.npy", "--pulse", "5", "--json").json["chunk"] == 5
    assert cli("run", "model.pP.onnx", "x.npy", "--json").json["pulse"] is None
    failed(cli("run", "model.pP.onnx", "x.npy", "--pulse", "Q"), 2, "a call takes a number of frames")


def test_several_inputs_and_outputs_by_name(cli: Cli, tmp_path: Path) -> None:
    g = G()
    a, b, scale = g.input("a", [1, 3, "S"]), g.input("b", [1, 3, "S"]), g.input("scale", [1])
    path = write(tmp_path / "m.onnx", g.model(g("Mul", g("Add", a, b), scale), g("Conv", b, g.weight(2, 3, 3))))
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal((1, 3, 20)).astype(np.float32) for n in "ab"}
    np.savez(tmp_path / "in.npz", **arrays)
    done = cli("run", "m.onnx", "in.npz", "--axis", "S", "--pulse", "4", "--static", "scale=2.5", "--compare", "m.onnx", "-o", "out.npz")
    assert (done.code, done.err) == (0, "")
    want = batch(path, **arrays, scale=np.array([2.5], np.float32))
    with np.load("out.npz") as got:
        assert [np.allclose(got[n], w, atol=1e-5) for n, w in zip(got.files, want, strict=True)] == [True, True]
    np.save("scale.npy", np.array([2.5], np.float32))
    assert cli("run", "m.onnx", "in.npz", "--axis", "S", "--static", "scale=scale.npy", "-q").code == 0
    np.savez("all.npz", **arrays, scale=np.array([2.5], np.float32))
    assert cli("run", "m.onnx", "all.npz", "--axis", "S", "-q").code == 0
    failed(cli("run", "m.onnx", "in.npz", "--axis", "S"), 2, "no value for the static input 'scale'", "--static scale=VALUE")
    failed(cli("run", "m.onnx", "in.npz", "--axis", "S", "--static", "scale=two"), 2, "'two' is no float32")
    failed(cli("run", "m.onnx", "in.npz", "--axis", "S", "--static", "gain=2"), 2, "the static inputs of the model are scale")
    one = cli("run", "m.onnx", "in.npz", "--axis", "S", "--static", "scale=2", "-o", "y.npy")
    failed(one, 2, "a .npy file holds one output", "-o a .npz, or --outputs to keep one")
    np.savez("short.npz", a=arrays["a"], b=arrays["b"][..., :-1])
    failed(cli("run", "m.onnx", "short.npz", "--axis", "S", "--static", "scale=2"), 2, "the inputs differ in length", "b holds 19 frames of S")
    np.savez("other.npz", a=arrays["a"], c=arrays["b"])
    failed(cli("run", "m.onnx", "other.npz", "--axis", "S", "--static", "scale=2"), 2, "the model streams a, b; the file holds a, c")
    failed(cli("run", "m.onnx", "scale.npy", "--axis", "S"), 2, "does not hold the model's inputs", "one array without a name")
    write_wav(tmp_path / "a.wav", noise(20, 1))
    failed(cli("run", "m.onnx", "a.wav", "--axis", "S"), 2, "a.wav holds one signal", "an .npz with one array per input")


def test_wav_in_and_out(cli: Cli, tmp_path: Path) -> None:
    path, samples = write(tmp_path / "m.onnx", audio_model()), noise(1001, 1)
    write_wav(tmp_path / "in.wav", samples)
    done = cli("run", "m.onnx", "in.wav", "--pulse", "32", "--compare", "m.onnx", "-o", "out.wav")
    assert (done.code, done.err) == (0, "")
    assert "stream        1,001 frames of S, 0.06 s of signal" in done.lines and "of real time" in done.out
    with wave.open("out.wav") as f:
        assert (f.getframerate(), f.getnchannels(), f.getsampwidth()) == (8000, 1, 2)
        got = np.frombuffer(f.readframes(f.getnframes()), "<i2")
    (want,) = batch(path, audio=samples.T.astype(np.float32) / 32768)
    assert np.abs(got - want.reshape(-1) * 32768).max() <= 0.51
    failed(cli("run", "m.onnx", "in.wav", "--rate", "8000"), 2, "the recording has 16000 samples a second, not 8000", "resample it")
    failed(cli("run", "m.onnx", "in.wav", "-o", "in.wav"), 2, "the output 'in.wav' is the input", "the recording would be lost")
    failed(cli("run", "m.onnx", "in.wav", "-o", "m.onnx"), 2, "the batch model would be lost")
    failed(cli("run", "m.onnx", "in.wav", "-o", "gone/out.wav"), 2, "does not exist")
    failed(cli("run", "m.onnx", "in.wav", "-o", "out.mp3"), 2, "cannot write .mp3", ".npy, .npz, .wav")


def test_gain_goes_in_and_comes_out(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", audio_model())
    write_wav(tmp_path / "in.wav", noise(100, 1))
    cli("run", "m.onnx", "in.wav", "--gain", "32768", "-o", "y.npy", "-q")
    cli("run", "m.onnx", "in.wav", "-o", "z.npy", "-q")
    assert np.allclose(np.load("y.npy"), np.load("z.npy") * 32768, rtol=1e-4)
    for gain in ("1", "32768"):
        cli("run", "m.onnx", "in.wav", "--gain", gain, "-o", f"y{gain}.wav", "-q")
    assert Path("y1.wav").read_bytes() == Path("y32768.wav").read_bytes()
    np.save("x.npy", np.zeros((1, 9), np.float32))
    failed(cli("run", "m.onnx", "x.npy", "--gain", "2"), 2, "--gain is for audio")


def test_clipping_is_told(cli: Cli, tmp_path: Path) -> None:
    g = G()
    write(tmp_path / "m.onnx", g.model(g("Mul", g.input("x", [1, "S"]), g.const(np.float32(4)))))
    write_wav(tmp_path / "in.wav", np.array([[100], [-30000], [30000]], np.int16))
    done = cli("run", "m.onnx", "in.wav", "-o", "out.wav")
    assert "note          2 samples were clipped to the range of 16 bits (--float keeps them)" in done.lines
    with wave.open("out.wav") as f:
        assert np.frombuffer(f.readframes(3), "<i2").tolist() == [400, -32768, 32767]


def test_stereo(cli: Cli, tmp_path: Path) -> None:
    samples = noise(50, 2)
    write_wav(tmp_path / "in.wav", samples)
    write(tmp_path / "one.onnx", audio_model(1))
    one = cli("run", "one.onnx", "in.wav")
    failed(one, 2, "in.wav does not fit the input 'audio'", "it has 2 channels, the model takes [1, time]", "--channel 0, or --channel mix")
    failed(cli("run", "one.onnx", "in.wav", "--channel", "2"), 2, "in.wav has 2 channels, counted from 0")
    for channel in ("1", "mix"):
        cli("run", "one.onnx", "in.wav", "--channel", channel, "-o", f"{channel}.npy", "-q")
    # Two channels: on the axis that is two long; else each a row of the batch.
    for rows in (2, "N"):
        path = write(tmp_path / "two.onnx", audio_model(rows))
        done = cli("run", "two.onnx", "in.wav", "--axis", "S", "--pulse", "8", "--compare", "two.onnx", "-o", "out.npy")
        assert (done.code, done.err) == (0, "")
        (want,) = batch(path, audio=samples.T.astype(np.float32) / 32768)
        assert np.allclose(np.load("out.npy"), want, atol=1e-6)
        assert np.allclose(np.load("1.npy")[0], want[1], atol=1e-6)
        assert np.allclose(np.load("mix.npy")[0], want.mean(0), atol=1e-4)
    assert cli("run", "two.onnx", "in.wav", "--axis", "S", "-o", "out.wav", "-q").code == 0
    with wave.open("out.wav") as f:
        assert f.getnchannels() == 2


def test_integer_samples_go_in_as_they_are(cli: Cli, tmp_path: Path) -> None:
    path, samples = write(tmp_path / "m.onnx", audio_model(1, TensorProto.INT16)), noise(64, 1)
    write_wav(tmp_path / "in.wav", samples)
    done = cli("run", "m.onnx", "in.wav", "--pulse", "8", "-o", "y.npy")
    assert (done.code, done.err) == (0, "")
    assert np.allclose(np.load("y.npy"), batch(path, audio=samples.T)[0], atol=1e-2)
    write(tmp_path / "wide.onnx", audio_model(1, TensorProto.INT64))
    failed(cli("run", "wide.onnx", "in.wav"), 2, "the model takes int64")


def test_float_wav_needs_the_extra(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "m.onnx", audio_model())
    write_wav(tmp_path / "in.wav", noise(64, 1))
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    data = bytearray((tmp_path / "in.wav").read_bytes())
    data[20] = 3  # the format tag: IEEE float
    (tmp_path / "float.wav").write_bytes(data)
    failed(cli("run", "m.onnx", "float.wav"), 2, "needs the extra 'audio'", "pip install 'pulsify[audio]'")
    failed(cli("run", "m.onnx", "in.wav", "--float", "-o", "out.wav"), 2, "needs the extra 'audio'")
    assert not Path("out.wav").exists()


def test_float_wav_with_the_extra(cli: Cli, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = write(tmp_path / "m.onnx", audio_model())
    samples = (noise(64, 1) / 10000).astype(np.float32)
    soundfile.write("in.wav", samples, 16000, subtype="FLOAT")
    assert cli("run", "m.onnx", "in.wav", "--float", "-o", "out.wav", "-q").code == 0
    got, rate = soundfile.read("out.wav", dtype="float32")
    assert rate == 8000 and np.allclose(got, batch(path, audio=samples.T)[0].reshape(-1), atol=1e-6)
    soundfile.write("in.flac", noise(64, 1), 16000)
    assert cli("run", "m.onnx", "in.flac", "-q").code == 0


@pytest.mark.parametrize("width", [1, 3, 4])
def test_other_widths_of_pcm(tmp_path: Path, width: int) -> None:
    path = tmp_path / "in.wav"
    with wave.open(str(path), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(width)
        f.setframerate(8000)
        f.writeframes(b"".join(v.to_bytes(width, "little") for v in ([0, 128, 192] if width == 1 else [0, 1 << (8 * width - 2), 1])))
    audio = signals.read(path).audio
    assert audio is not None
    want = [-1.0, 0.0, 0.5] if width == 1 else [0.0, 0.5, 2.0 ** (1 - 8 * width)]
    assert np.allclose(audio[:, 0], want)


def test_arrays_that_do_not_fit(cli: Cli, model: Path) -> None:
    def said(array: np.ndarray, *texts: str) -> None:
        np.save("x.npy", array)
        failed(cli("run", "model.onnx", "x.npy"), 2, "x.npy does not fit the input 'x'", *texts)

    said(np.zeros((1, 7, 9), np.float32), "it is float32 [1, 7, 9], the model takes float32 [1, 8, time], time on axis 2")
    said(np.zeros((9, 8), np.float32), "array.T")
    said(np.zeros((1, 8, 9), np.int16), "array.astype(numpy.float32), scaled as the model was trained")
    said(np.zeros((1, 8, 9), np.complex64), "complex64")
    for fine in (np.zeros((8, 9), np.float32), np.zeros((1, 8, 9), np.float64)):
        np.save("x.npy", fine)
        assert cli("run", "model.onnx", "x.npy", "--json").json["outputs"][0]["shape"] == [1, 8, 7]


def test_files_that_cannot_be_read(cli: Cli, model: Path, x: np.ndarray) -> None:
    failed(cli("run", "model.onnx", "gone.npy"), 2, "cannot read 'gone.npy'", "No such file")
    failed(cli("run", "model.onnx", "x.txt"), 2, "a recording is one of .npy, .npz, .wav")
    for name in ("bad.npy", "bad.npz", "bad.wav"):
        Path(name).write_bytes(b"RIFF1234")
        failed(cli("run", "model.onnx", name), 2, f"cannot read {name!r}", "it is not a complete")
    np.save("o.npy", np.array([{}], dtype=object), allow_pickle=True)
    failed(cli("run", "model.onnx", "o.npy"), 2, "not a complete .npy file")
    failed(cli("run", "modle.onnx", "x.npy"), 5, "did you mean 'model.onnx'?")


def test_a_chunk_must_hold_whole_frames(cli: Cli, model: Path, x: np.ndarray) -> None:
    failed(cli("run", "model.onnx", "x.npy", "--chunk", "0"), 2, "a chunk of 0 frames")


def test_disagreement_is_exit_4_and_writes_nothing(cli: Cli, model: Path, x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_conv(monkeypatch)
    done = cli("run", "model.onnx", "x.npy", "--pulse", "4", "--compare", "model.onnx", "-o", "y.npy")
    failed(done, 4, "the pulsed model disagrees with the batch model")
    assert not Path("y.npy").exists()


def test_another_batch_model_is_told(cli: Cli, model: Path, tmp_path: Path, x: np.ndarray) -> None:
    cli("model.onnx", "--pulse", "4", "-q")
    other = conv()
    other.doc_string = "the same numbers, another file"
    write(tmp_path / "other.onnx", other)
    done = cli("run", "model.p4.onnx", "x.npy", "--compare", "other.onnx")
    assert done.code == 0 and "note          the pulsed model was made of another file" in done.out
    write(tmp_path / "far.onnx", audio_model())
    failed(cli("run", "model.p4.onnx", "x.npy", "--compare", "far.onnx"), 4, "cannot compare")
