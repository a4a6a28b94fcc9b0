@testable import ApusTensor

/// An operation as the fixture names it: its name, then `key=value` pairs.
func descriptor(_ operation: Operation) -> String {
  switch operation {
  case .unary(let kind): "unary kind=\(kind)"
  case .binary(let kind): "binary kind=\(kind)"
  case .compare(let kind): "compare kind=\(kind)"
  case .select: "select"
  case .convert(let type): "convert type=\(type)"
  case .bitcast(let type): "bitcast type=\(type)"
  case .activationGradient(let kind): "activationGradient kind=\(kind)"
  case .fill(let shape, let type, let value): "fill shape=\(listText(shape)) type=\(type) value=\(value.double)"
  case .iota(let shape, let type, let axis): "iota shape=\(listText(shape)) type=\(type) axis=\(axis)"
  case .random(let p): "random \(descriptor(p.kind)) shape=\(listText(p.shape)) type=\(p.elementType)"
  case .broadcast(let shape): "broadcast shape=\(listText(shape))"
  case .reshape(let shape): "reshape shape=\(listText(shape))"
  case .transpose(let permutation): "transpose permutation=\(listText(permutation))"
  case .slice(let start, let size, let step): "slice start=\(listText(start)) size=\(listText(size)) step=\(listText(step))"
  case .pad(let low, let high, let interior): "pad low=\(listText(low)) high=\(listText(high)) interior=\(listText(interior))"
  case .concatenate(let axis): "concatenate axis=\(axis)"
  case .reverse(let axes): "reverse axes=\(listText(axes))"
  case .dynamicSlice(let size): "dynamicSlice size=\(listText(size))"
  case .dynamicUpdateSlice: "dynamicUpdateSlice"
  case .triangle(let upper, let diagonal): "triangle upper=\(upper) diagonal=\(diagonal)"
  case .reduce(let kind, let axes, let keepDims): "reduce kind=\(kind) axes=\(listText(axes)) keepDims=\(keepDims)"
  case .argReduce(let kind, let axis, let keepDims): "argReduce kind=\(kind) axis=\(axis) keepDims=\(keepDims)"
  case .scan(let kind, let axis, let reverse, let exclusive):
    "scan kind=\(kind) axis=\(axis) reverse=\(reverse) exclusive=\(exclusive)"
  case .sort(let axis, let descending): "sort axis=\(axis) descending=\(descending)"
  case .topK(let k, let axis, let largest): "topK k=\(k) axis=\(axis) largest=\(largest)"
  case .gather(let axis): "gather axis=\(axis)"
  case .takeAlong(let axis): "takeAlong axis=\(axis)"
  case .gatherND: "gatherND"
  case .scatter(let kind, let axis): "scatter kind=\(kind) axis=\(axis)"
  case .scatterAlong(let kind, let axis): "scatterAlong kind=\(kind) axis=\(axis)"
  case .scatterND(let kind): "scatterND kind=\(kind)"
  case .dot(let d):
    "dot lhsBatch=\(listText(d.lhsBatch)) rhsBatch=\(listText(d.rhsBatch)) lhsContracting=\(listText(d.lhsContracting)) rhsContracting=\(listText(d.rhsContracting))"
  case .quantizedDot: "quantizedDot"
  case .convolution(let p): "convolution \(descriptor(p))"
  case .convolutionInputGradient(let p, let size): "convolutionInputGradient \(descriptor(p)) inputSize=\(listText(size))"
  case .convolutionKernelGradient(let p, let size): "convolutionKernelGradient \(descriptor(p)) kernelSize=\(listText(size))"
  case .reduceWindow(let kind, let window): "reduceWindow kind=\(kind) \(descriptor(window))"
  case .reduceWindowGradient(let kind, let window): "reduceWindowGradient kind=\(kind) \(descriptor(window))"
  case .maxPoolIndices(let window): "maxPoolIndices \(descriptor(window))"
  case .stopGradient: "stopGradient"
  case .composite(let composite): descriptor(composite)
  case .constant(let constant): "constant type=\(constant.type)"
  case .call, .conditional, .whileLoop, .whileLoopGradient, .customCall: operation.name
  case .scanLoop(let loop): "scanLoop length=\(loop.length) reverse=\(loop.reverse)"
  }
}

private func descriptor(_ p: ConvolutionParameters) -> String {
  "stride=\(listText(p.stride)) padLow=\(listText(p.padLow)) padHigh=\(listText(p.padHigh)) kernelDilation=\(listText(p.kernelDilation)) inputDilation=\(listText(p.inputDilation)) groups=\(p.groups)"
}

private func descriptor(_ w: Window) -> String {
  "size=\(listText(w.size)) stride=\(listText(w.stride)) padLow=\(listText(w.padLow)) padHigh=\(listText(w.padHigh)) dilation=\(listText(w.dilation))"
}

private func descriptor(_ kind: RandomParameters.Kind) -> String {
  switch kind {
  case .uniform(let low, let high): "kind=uniform low=\(low) high=\(high)"
  case .normal(let mean, let deviation): "kind=normal mean=\(mean) deviation=\(deviation)"
  case .truncatedNormal(let mean, let deviation, let low, let high):
    "kind=truncatedNormal mean=\(mean) deviation=\(deviation) low=\(low) high=\(high)"
  case .bernoulli(let probability): "kind=bernoulli probability=\(probability)"
  case .integers(let low, let high): "kind=integers low=\(low) high=\(high)"
  case .permutation: "kind=permutation"
  case .bits: "kind=bits"
  }
}

private func descriptor(_ composite: Composite) -> String {
  switch composite {
  case .softmax, .logSoftmax, .softmaxGradient, .logSoftmaxGradient, .layerNormGradient, .rmsNormGradient, .linear: composite.name
  case .layerNorm(let epsilon), .rmsNorm(let epsilon), .batchNorm(let epsilon), .batchNormGradient(let epsilon),
    .batchNormInference(let epsilon):
    "\(composite.name) epsilon=\(epsilon)"
  case .softmaxCrossEntropy(let ignoreIndex, let smoothing), .softmaxCrossEntropyGradient(let ignoreIndex, let smoothing):
    "\(composite.name) ignoreIndex=\(ignoreIndex) smoothing=\(smoothing)"
  case .attention(let scale, let causal): "attention scale=\(scale) causal=\(causal)"
  case .attentionGradient(let scale, let causal, let forMask):
    "attentionGradient scale=\(scale) causal=\(causal) forMask=\(forMask)"
  case .rope(let interleaved, let inverse): "rope interleaved=\(interleaved) inverse=\(inverse)"
  case .recurrentSequence(let sequence, let keeps): "\(composite.name) reverse=\(sequence.reverse) keeps=\(keeps)"
  case .recurrentSequenceGradient(let sequence): "\(composite.name) reverse=\(sequence.reverse)"
  case .lstmCell, .lstmCellGradient, .gruCell, .gruCellGradient, .optimizerStep: composite.name
  }
}
