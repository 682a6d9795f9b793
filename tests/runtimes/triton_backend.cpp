// A Triton backend in small, for the tests: what Triton's own onnxruntime backend does with a sequence model, on CPU and
// with nothing else. Requests of one call become one batch; states come as inputs and go back to the server.
// The server's functions are declared here, after tritonbackend.h of the Triton core API.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

extern "C" {
typedef void Handle;
Handle* TRITONSERVER_ErrorNew(int code, const char* message);
Handle* TRITONBACKEND_ModelInstanceModel(Handle* instance, Handle** model);
Handle* TRITONBACKEND_ModelRepository(Handle* model, int* kind, const char** location);
Handle* TRITONBACKEND_ModelInstanceSetState(Handle* instance, void* state);
Handle* TRITONBACKEND_ModelInstanceState(Handle* instance, void** state);
Handle* TRITONBACKEND_RequestInput(Handle* request, const char* name, Handle** input);
Handle* TRITONBACKEND_InputProperties(Handle* input, const char** name, int* type, const int64_t** shape, uint32_t* rank,
                                      uint64_t* bytes, uint32_t* buffers);
Handle* TRITONBACKEND_InputBuffer(Handle* input, uint32_t index, const void** data, uint64_t* bytes, int* memory, int64_t* id);
Handle* TRITONBACKEND_ResponseNew(Handle** response, Handle* request);
Handle* TRITONBACKEND_ResponseOutput(Handle* response, Handle** output, const char* name, int type, const int64_t* shape,
                                     uint32_t rank);
Handle* TRITONBACKEND_OutputBuffer(Handle* output, void** data, uint64_t bytes, int* memory, int64_t* id);
Handle* TRITONBACKEND_ResponseSend(Handle* response, uint32_t flags, Handle* error);
Handle* TRITONBACKEND_RequestRelease(Handle* request, uint32_t flags);
Handle* TRITONBACKEND_StateNew(Handle** state, Handle* request, const char* name, int type, const int64_t* shape, uint32_t rank);
Handle* TRITONBACKEND_StateBuffer(Handle* state, void** data, uint64_t bytes, int* memory, int64_t* id);
Handle* TRITONBACKEND_StateUpdate(Handle* state);
Handle* TRITONBACKEND_ModelInstanceReportBatchStatistics(Handle* instance, uint64_t rows, uint64_t start, uint64_t compute_start,
                                                         uint64_t compute_end, uint64_t end);
}

namespace {

struct Failed {
  Handle* error;
};

void check(Handle* error) {
  if (error != nullptr) throw Failed{error};
}

// Triton's types for those of onnxruntime, and bytes per element.
const std::map<int, std::pair<int, size_t>> kTypes = {
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {11, 4}}, {ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, {12, 8}},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, {9, 8}},  {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, {8, 4}},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, {1, 1}},
};

struct Instance {
  Ort::Env env;
  Ort::Session session;
  std::vector<std::string> inputs, outputs;

  explicit Instance(const std::string& path) : session(env, path.c_str(), Ort::SessionOptions{}) {
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < session.GetInputCount(); i++) inputs.push_back(session.GetInputNameAllocated(i, allocator).get());
    for (size_t i = 0; i < session.GetOutputCount(); i++) outputs.push_back(session.GetOutputNameAllocated(i, allocator).get());
  }

  // An input of all requests, their rows behind each other.
  Ort::Value gather(size_t index, Handle** requests, uint32_t count) {
    Ort::AllocatorWithDefaultOptions allocator;
    Ort::TypeInfo info = session.GetInputTypeInfo(index);
    const auto type = info.GetTensorTypeAndShapeInfo().GetElementType();
    std::vector<int64_t> dims;
    std::vector<char> bytes;
    for (uint32_t r = 0; r < count; r++) {
      Handle* input = nullptr;
      check(TRITONBACKEND_RequestInput(requests[r], inputs[index].c_str(), &input));
      int kind;
      const int64_t* shape;
      uint32_t rank, buffers;
      uint64_t size;
      check(TRITONBACKEND_InputProperties(input, nullptr, &kind, &shape, &rank, &size, &buffers));
      if (kind != kTypes.at(type).first) throw std::runtime_error("an input of another type: " + inputs[index]);
      if (r == 0) dims.assign(shape, shape + rank);
      else dims[0] += shape[0];
      for (uint32_t b = 0; b < buffers; b++) {
        const void* data;
        uint64_t part;
        int memory = 0;
        int64_t id = 0;
        check(TRITONBACKEND_InputBuffer(input, b, &data, &part, &memory, &id));
        bytes.insert(bytes.end(), static_cast<const char*>(data), static_cast<const char*>(data) + part);
      }
    }
    auto value = Ort::Value::CreateTensor(allocator, dims.data(), dims.size(), type);
    if (value.GetTensorTypeAndShapeInfo().GetElementCount() * kTypes.at(type).second != bytes.size())
      throw std::runtime_error("an input of another size: " + inputs[index]);
    std::memcpy(value.GetTensorMutableRawData(), bytes.data(), bytes.size());
    return value;
  }

  void run(Handle** requests, uint32_t count) {
    std::vector<Ort::Value> values;
    std::vector<const char*> in, out;
    for (size_t i = 0; i < inputs.size(); i++) {
      values.push_back(gather(i, requests, count));
      in.push_back(inputs[i].c_str());
    }
    for (auto& name : outputs) out.push_back(name.c_str());
    auto results = session.Run(Ort::RunOptions{nullptr}, in.data(), values.data(), in.size(), out.data(), out.size());
    for (uint32_t r = 0; r < count; r++) {
      Handle* response = nullptr;
      check(TRITONBACKEND_ResponseNew(&response, requests[r]));
      for (size_t o = 0; o < outputs.size(); o++) give(results[o], outputs[o], requests[r], response, r, count);
      check(TRITONBACKEND_ResponseSend(response, 1, nullptr));
    }
  }

  // A request's part of an output: a state goes back to the server, which tells the two apart by the name.
  void give(Ort::Value& value, const std::string& name, Handle* request, Handle* response, uint32_t row, uint32_t count) {
    const auto info = value.GetTensorTypeAndShapeInfo();
    const auto [kind, size] = kTypes.at(info.GetElementType());
    auto dims = info.GetShape();
    if (count > 1) dims[0] = 1;
    const uint64_t bytes = info.GetElementCount() * size / count;
    int memory = 0;
    int64_t id = 0;
    Handle *target = nullptr, *state = nullptr;
    void* data = nullptr;
    // The server refuses a state that the configuration does not name, and the error is ours to drop.
    const bool kept = TRITONBACKEND_StateNew(&state, request, name.c_str(), kind, dims.data(), dims.size()) == nullptr;
    if (kept) {
      check(TRITONBACKEND_StateBuffer(state, &data, bytes, &memory, &id));
    } else {
      check(TRITONBACKEND_ResponseOutput(response, &target, name.c_str(), kind, dims.data(), dims.size()));
      check(TRITONBACKEND_OutputBuffer(target, &data, bytes, &memory, &id));
    }
    std::memcpy(data, value.GetTensorMutableData<char>() + row * bytes, bytes);
    if (kept) check(TRITONBACKEND_StateUpdate(state));
  }
};

uint64_t now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

template <typename Call>
Handle* guarded(Call call) {
  try {
    call();
    return nullptr;
  } catch (const Failed& e) {
    return e.error;
  } catch (const std::exception& e) {
    return TRITONSERVER_ErrorNew(1, e.what());
  }
}

}  // namespace

extern "C" Handle* TRITONBACKEND_ModelInstanceInitialize(Handle* instance) {
  return guarded([&] {
    Handle* model = nullptr;
    const char* location = nullptr;
    int kind = 0;
    check(TRITONBACKEND_ModelInstanceModel(instance, &model));
    check(TRITONBACKEND_ModelRepository(model, &kind, &location));
    check(TRITONBACKEND_ModelInstanceSetState(instance, new Instance(std::string(location) + "/1/model.onnx")));
  });
}

extern "C" Handle* TRITONBACKEND_ModelInstanceExecute(Handle* instance, Handle** requests, const uint32_t count) {
  return guarded([&] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceState(instance, &state));
    const uint64_t start = now();
    static_cast<Instance*>(state)->run(requests, count);
    const uint64_t end = now();
    check(TRITONBACKEND_ModelInstanceReportBatchStatistics(instance, count, start, start, end, end));
    for (uint32_t r = 0; r < count; r++) check(TRITONBACKEND_RequestRelease(requests[r], 1));
  });
}
