import ApusCPU
import ApusExport
import ApusTensor

/// Requests, or parts of them, that run together.
struct Batch {
  let group: RequestGroup
  let layout: SignatureLayout
  var parts: [WaitingPart]
  /// Examples of the parts.
  var examples: Int
  /// Examples that the model gets: those, and copies of the last one.
  var size: Int
  /// Sizes of the open dimensions that the model gets.
  var sizes: [Int]
  var begun: ContinuousClock.Instant

  /// What the model gets. Each request's examples are copied once; one that runs by itself, as it is, is not copied.
  func inputs() -> [String: Tensor] {
    let first = parts[0]
    if parts.count == 1, layout.batchAxis == nil || (first.count == first.request.examples && first.request.sizes == sizes) {
      return first.request.inputs
    }
    var result: [String: Tensor] = [:]
    for (input, axes) in zip(layout.signature.inputs, layout.inputAxes) {
      guard let tensor = first.request.inputs[input.name] else { continue }
      var shape = tensor.shape
      for (i, axis) in axes.enumerated() where axis >= 0 { shape[i] = sizes[axis] }
      if parts.count == 1, shape == tensor.shape.replacing(0, by: first.count), size == first.count {
        result[input.name] = Tensor(values: tensor.array.rows(first.start, first.count))
        continue
      }
      result[input.name] = Tensor(values: joined(input.name, shape, tensor.elementType))
    }
    return result
  }

  private func joined(_ name: String, _ shape: Shape, _ elementType: ElementType) -> CPUArray {
    let target = CPUArray(uninitialized: shape, elementType)
    guard size > 0 else { return target }
    let rowBytes = shape.elementCount / size * elementType.byteSize
    let base = target.pointer
    var row = 0
    for part in parts {
      guard let tensor = part.request.inputs[name] else { continue }
      let source = tensor.array.rows(part.start, part.count)
      let place = base + row * rowBytes
      if source.shape == shape.replacing(0, by: part.count) {
        if source.isRowMajor {
          place.copyMemory(from: source.pointer, byteCount: part.count * rowBytes)
        } else {
          target.rows(row, part.count).assign(source)
        }
      } else {
        place.initializeMemory(as: UInt8.self, repeating: 0, count: part.count * rowBytes)
        let corner = CPUArray(
          view: target, byteOffset: target.byteOffset + row * rowBytes, shape: source.shape, strides: target.strides)
        corner.assign(source)
      }
      row += part.count
    }
    // Copies of an example are as good as any: no value that the model might refuse.
    while row < size, row > 0 {
      (base + row * rowBytes).copyMemory(from: base + (row - 1) * rowBytes, byteCount: rowBytes)
      row += 1
    }
    return target
  }

  /// Each part's share of the results, in the signature's order: views, nothing is copied.
  func split(_ results: [String: Tensor]) throws(ServingError) -> [[Tensor]] {
    var shares = [[Tensor]](repeating: [], count: parts.count)
    let isWhole =
      parts.count == 1 && (layout.batchAxis == nil || (size == parts[0].count && otherSizesAgree(parts[0].request)))
    for (output, axes) in zip(layout.signature.outputs, layout.outputAxes) {
      guard let tensor = results[output.name] else {
        throw ServingError(.internalError, "the model gave no output '\(output.name)'")
      }
      if isWhole {
        shares[0].append(tensor)
        continue
      }
      let array = tensor.array
      guard array.shape.count == axes.count, zip(array.shape, axes).allSatisfy({ $1 < 0 || $0 == sizes[$1] }) else {
        throw ServingError(
          .internalError, "the model's output '\(output.name)' is \(tensor.type), which is not what its signature says")
      }
      var start = 0
      for (i, part) in parts.enumerated() {
        var shape = array.shape
        for (d, axis) in axes.enumerated() where axis >= 0 { shape[d] = part.request.sizes[axis] }
        shape[0] = part.count
        let offset = array.byteOffset + start * array.strides[0] * array.elementType.byteSize
        shares[i].append(
          Tensor(values: CPUArray(view: array, byteOffset: offset, shape: shape, strides: array.strides)))
        start += part.count
      }
    }
    return shares
  }

  private func otherSizesAgree(_ request: WaitingRequest) -> Bool {
    layout.otherAxes.allSatisfy { request.sizes[$0] == sizes[$0] }
  }
}

extension Shape {
  fileprivate func replacing(_ dimension: Int, by size: Int) -> Shape {
    var shape = self
    shape[dimension] = size
    return shape
  }
}

extension CPUArray {
  /// Some of the first dimension, without a copy.
  func rows(_ start: Int, _ count: Int) -> CPUArray {
    if start == 0, count == shape[0] { return self }
    var shape = shape
    shape[0] = count
    return CPUArray(
      view: self, byteOffset: byteOffset + start * strides[0] * elementType.byteSize, shape: shape, strides: strides)
  }
}

/// The parts of a request that was split, joined again: one copy.
func rejoined(_ answers: [Answer], _ signature: Signature) -> Answer {
  guard answers.count > 1, var result = answers.first else {
    return answers.first ?? Answer(outputs: [], timings: InferenceTimings())
  }
  for i in result.outputs.indices {
    let arrays = answers.map { $0.outputs[i].array }
    var shape = arrays[0].shape
    shape[0] = arrays.reduce(0) { $0 + $1.shape[0] }
    let target = CPUArray(uninitialized: shape, arrays[0].elementType)
    var row = 0
    for array in arrays {
      target.rows(row, array.shape[0]).assign(array)
      row += array.shape[0]
    }
    result.outputs[i] = Tensor(values: target)
  }
  for answer in answers.dropFirst() {
    result.timings.queue = min(result.timings.queue, answer.timings.queue)
    result.timings.computeInput += answer.timings.computeInput
    result.timings.compute += answer.timings.compute
    result.timings.computeOutput += answer.timings.computeOutput
    result.timings.batchSize = max(result.timings.batchSize, answer.timings.batchSize)
  }
  return result
}
