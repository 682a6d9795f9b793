// c++ -std=c++17 stream.cpp -lonnxruntime -o stream        (and nlohmann/json, for the manifest)
// ./stream MODEL.onnx < PULSES.f32 > FRAMES.f32
// Streams a pulsed float32 model with one streaming input: pulse after pulse in the layout of that input, raw; the last may
// be shorter where time comes first in it. Out comes the first output, call by call, from the first call that holds a
// frame that counts (docs/contract.md).
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>

int main(int, char** argv) {
  Ort::Env env;
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  Ort::Session session(env, argv[1], options);
  Ort::AllocatorWithDefaultOptions allocator;
  auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated("pulsify.manifest", allocator);
  const auto m = nlohmann::json::parse(text.get());

  std::vector<std::string> names;
  std::vector<Ort::Value> values;  // in the order of the contract: the inputs, valid_frames, the states
  for (size_t i = 0; i < session.GetInputCount(); i++) {  // all zeros; one row where the batch is symbolic
    Ort::TypeInfo type = session.GetInputTypeInfo(i);
    auto info = type.GetTensorTypeAndShapeInfo();
    auto dims = info.GetShape();
    size_t count = 1;
    for (auto& d : dims) count *= d = d < 0 ? 1 : d;
    values.push_back(Ort::Value::CreateTensor(allocator, dims.data(), dims.size(), info.GetElementType()));
    const bool wide = info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 ||
                      info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    const bool flag = info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
    std::memset(values.back().GetTensorMutableRawData(), 0, count * (wide ? 8 : flag ? 1 : 4));
    names.push_back(session.GetInputNameAllocated(i, allocator).get());
  }
  const size_t inputs = names.size(), first = inputs - m["states"].size(), results = m["outputs"].size();
  for (size_t i = 0; i < session.GetOutputCount(); i++) names.push_back(session.GetOutputNameAllocated(i, allocator).get());
  std::vector<const char*> c_names;
  for (auto& name : names) c_names.push_back(name.c_str());

  const int frames = m["outputs"][0]["frames"], delay = m["outputs"][0]["delay"], pulse = m["pulse"];
  const size_t count = values[0].GetTensorTypeAndShapeInfo().GetElementCount();
  int flush = (delay + frames - 1) / frames;  // calls after the last real frame, for the tail
  for (int call = 1;; call++) {
    float* x = values[0].GetTensorMutableData<float>();
    const size_t got = std::fread(x, sizeof(float), count, stdin);
    std::memset(x + got, 0, (count - got) * sizeof(float));
    if (got == 0 && flush-- == 0) break;
    if (!m["valid"].is_null()) *values[m["inputs"].size()].GetTensorMutableData<int64_t>() = got * pulse / count;
    auto out = session.Run(Ort::RunOptions{nullptr}, c_names.data(), values.data(), inputs, c_names.data() + inputs,
                           names.size() - inputs);
    for (size_t s = first; s < inputs; s++) values[s] = std::move(out[results + s - first]);
    if (call * frames > delay)  // delay % frames of the first are warm-up; what is past length(S) is filler
      std::fwrite(out[0].GetTensorData<float>(), sizeof(float), out[0].GetTensorTypeAndShapeInfo().GetElementCount(), stdout);
  }
}
