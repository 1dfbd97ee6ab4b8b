// The peer of the overhead benchmark: a program that does nothing but call TensorRT-RTX.
// usage: bare LIBRARIES MODEL ENGINE [INPUT MIN OPT MAX], each shape as 1x3x224x224
#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace {

struct Logger : nvinfer1::ILogger {
    void log(Severity severity, char const* text) noexcept override {
        if (severity <= Severity::kERROR) std::fprintf(stderr, "%s\n", text);
    }
} logger;

nvinfer1::Dims shape(char const* text) {
    nvinfer1::Dims dims{};
    std::stringstream sizes(text);
    for (std::string size; std::getline(sizes, size, 'x');) dims.d[dims.nbDims++] = std::atoll(size.c_str());
    return dims;
}

template <typename F>
F symbol(std::string const& library, char const* name) {
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (!handle) {
        std::fprintf(stderr, "%s\n", dlerror());
        std::exit(2);
    }
    return reinterpret_cast<F>(dlsym(handle, name));
}

}  // namespace

int main(int argc, char** argv) {
    using namespace nvinfer1;
    std::string const folder = argv[1];
    auto make_builder = symbol<IBuilder* (*)(void*, int)>(folder + "/libtensorrt_rtx.so.1", "createInferBuilder_INTERNAL");
    auto make_parser = symbol<nvonnxparser::IParser* (*)(void*, void*, int)>(
        folder + "/libtensorrt_onnxparser_rtx.so.1", "createNvOnnxParser_INTERNAL");
    IBuilder* builder = make_builder(&logger, NV_TENSORRT_VERSION);
    builder->setMaxThreads(1);
    INetworkDefinition* network = builder->createNetworkV2(1);
    nvonnxparser::IParser* parser = make_parser(network, &logger, NV_ONNX_PARSER_VERSION);
    std::ifstream file(argv[2], std::ios::binary | std::ios::ate);
    std::string model(static_cast<std::size_t>(file.tellg()), '\0');
    file.seekg(0).read(model.data(), static_cast<std::streamsize>(model.size()));
    if (!parser->parse(model.data(), model.size(), argv[2])) return 3;
    IBuilderConfig* config = builder->createBuilderConfig();
    config->setNbComputeCapabilities(1);
    config->setComputeCapability(ComputeCapability::kSM86, 0);
    config->setMemoryPoolLimit(MemoryPoolType::kWORKSPACE, std::size_t{4} << 30);
    config->clearFlag(BuilderFlag::kTF32);
    if (argc > 7) {
        IOptimizationProfile* profile = builder->createOptimizationProfile();
        profile->setDimensions(argv[4], OptProfileSelector::kMIN, shape(argv[5]));
        profile->setDimensions(argv[4], OptProfileSelector::kOPT, shape(argv[6]));
        profile->setDimensions(argv[4], OptProfileSelector::kMAX, shape(argv[7]));
        config->addOptimizationProfile(profile);
    }
    IHostMemory* engine = builder->buildSerializedNetwork(*network, *config);
    if (!engine) return 4;
    std::ofstream(argv[3], std::ios::binary).write(static_cast<char const*>(engine->data()), engine->size());
    std::_Exit(0);
}
