import ApusCPU

@testable import ApusTensor

extension OperationSamples {
  private static let ignored = -100

  /// One of each, with the parameters worth trying.
  static let composites: [Composite] =
    [
      .softmax, .logSoftmax, .softmaxGradient, .logSoftmaxGradient, .layerNorm(epsilon: 1e-5), .layerNormGradient,
      .rmsNorm(epsilon: 1e-6), .rmsNormGradient, .batchNorm(epsilon: 1e-5), .batchNormGradient(epsilon: 1e-5),
      .batchNormInference(epsilon: 1e-3), .softmaxCrossEntropy(ignoreIndex: ignored, labelSmoothing: 0),
      .softmaxCrossEntropy(ignoreIndex: 1, labelSmoothing: 0.1),
      .softmaxCrossEntropyGradient(ignoreIndex: ignored, labelSmoothing: 0),
      .softmaxCrossEntropyGradient(ignoreIndex: 1, labelSmoothing: 0.1), .linear,
    ] + sequenceComposites

  /// No default: a new composite does not compile without samples; `composites` must then name it.
  static func composite(_ composite: Composite) -> [Sample] {
    switch composite {
    case .softmax, .logSoftmax:
      let shapes: [Shape] = [[3, 7], [5], [2, 37], [2, 0], [0, 3], [1, 1], [2, 1, 3, 1, 2]]
      var samples = shapes.map { Sample(.composite(composite), [Input($0)], real, gradients: [0], ulps: 4, magnitude: 1) }
      samples.append(
        Sample(.composite(composite), [Input([11, 4], .special(period: 3))], real, ulps: 4, magnitude: 1).only(real))
      return samples
    case .softmaxGradient, .logSoftmaxGradient:
      let shapes: [Shape] = [[3, 7], [5], [2, 37], [0, 3], [2, 1, 3, 1, 2]]
      return shapes.map { shape in
        // y as softmax gives it is within 0 and 1, as log softmax below 0; the formulas hold for any number.
        Sample(
          .composite(composite), [Input(shape, .unit, seed: 1), Input(shape, seed: 2)], real, gradients: [0, 1], ulps: 4,
          magnitude: 100)
      }
    case .layerNorm:
      return rowShapes.map { shape in
        let n = shape[shape.count - 1]
        return Sample(
          .composite(composite), [Input(shape, seed: 1), Input([n], seed: 2), Input([n], seed: 3)], real, gradients: [0, 1, 2],
          ulps: 8,
          magnitude: 8)
      }
    case .layerNormGradient:
      return rowShapes.map { shape in
        let n = shape[shape.count - 1]
        let rows = Shape(shape.dropLast())
        return Sample(
          .composite(composite),
          [
            Input(shape, seed: 1), Input(shape, seed: 2), Input([n], seed: 3), Input(rows, .unit, seed: 4, role: .statistics),
            Input(rows, .positive, seed: 5, role: .statistics),
          ], real, gradients: [0, 1, 2, 3, 4], ulps: 8, magnitude: 200)
      }
    case .rmsNorm:
      return rowShapes.map { shape in
        let n = shape[shape.count - 1]
        return Sample(
          .composite(composite), [Input(shape, seed: 1), Input([n], seed: 2)], real, gradients: [0, 1], ulps: 8, magnitude: 8)
      }
    case .rmsNormGradient:
      return rowShapes.map { shape in
        let n = shape[shape.count - 1]
        let rows = Shape(shape.dropLast())
        return Sample(
          .composite(composite),
          [
            Input(shape, seed: 1), Input(shape, seed: 2), Input([n], seed: 3), Input(rows, .positive, seed: 5, role: .statistics),
          ], real,
          gradients: [0, 1, 2, 3], ulps: 8, magnitude: 400)
      }
    case .batchNorm:
      return channelShapes.map { shape in
        let c = shape[1]
        return Sample(
          .composite(composite), [Input(shape, seed: 1), Input([c], seed: 2), Input([c], seed: 3)], real, gradients: [0, 1, 2],
          ulps: 8,
          magnitude: 8, dependsOnLayout: true)
      }
    case .batchNormGradient:
      return channelShapes.map { shape in
        let c = shape[1]
        return Sample(
          .composite(composite),
          [
            Input(shape, seed: 1), Input(shape, seed: 2), Input([c], seed: 3), Input([c], .unit, seed: 4, role: .statistics),
            Input([c], .positive, seed: 5, role: .statistics),
          ], real, gradients: [0, 1, 2, 3, 4], ulps: 8, magnitude: 400, dependsOnLayout: true)
      }
    case .batchNormInference:
      return (channelShapes + [[0, 3, 2, 2]]).map { shape in
        let c = shape[1]
        return Sample(
          .composite(composite),
          [
            Input(shape, seed: 1), Input([c], seed: 2), Input([c], seed: 3), Input([c], .unit, seed: 4, role: .statistics),
            Input([c], .positive, seed: 5, role: .statistics),
          ], real, gradients: [0, 1, 2, 3, 4], ulps: 8, magnitude: 40)
      }
    case .softmaxCrossEntropy(let ignoreIndex, _):
      return labelShapes.map { shape in
        Sample(
          .composite(composite), [Input(shape, seed: 1), labels(shape, ignoreIndex)], real, gradients: [0], ulps: 4, magnitude: 8)
      }
    case .softmaxCrossEntropyGradient(let ignoreIndex, _):
      return labelShapes.map { shape in
        Sample(
          .composite(composite),
          [
            Input([shape[0]], seed: 4, role: .statistics), Input(shape, seed: 1), labels(shape, ignoreIndex),
            Input([shape[0]], .aboveOne, seed: 5, role: .statistics),
          ], real, gradients: [0, 1, 3], ulps: 8, magnitude: 40)
      }
    case .linear:
      let cases: [(x: Shape, out: Int)] = [
        ([3, 4], 5), ([4], 3), ([2, 3, 7], 2), ([2, 1, 2, 1, 3], 4), ([0, 3], 2), ([2, 0], 3), ([5, 19], 7),
      ]
      return cases.map { x, out in
        Sample(
          .composite(composite), [Input(x, seed: 1), Input([out, x[x.count - 1]], seed: 2), Input([out], seed: 3)], real,
          gradients: [0, 1, 2], magnitude: 60, dependsOnLayout: true)
      }
    case .attention(_, let causal): return attention(composite, causal: causal)
    case .attentionGradient(_, let causal, let forMask): return attentionGradient(composite, causal: causal, forMask: forMask)
    case .rope: return rope(composite)
    case .lstmCell, .lstmCellGradient: return lstm(composite)
    case .gruCell, .gruCellGradient: return gru(composite)
    case .recurrentSequence, .recurrentSequenceGradient: return sequence(composite)
    // Compared with the optimizers, and these with PyTorch, in the NN room's tests.
    case .optimizerStep: return []
    }
  }

  private static let rowShapes: [Shape] = [[3, 7], [6], [2, 37], [2, 1, 3, 1, 4], [0, 3]]
  private static let channelShapes: [Shape] = [[4, 3], [2, 3, 5], [2, 3, 2, 3], [1, 9, 2, 2], [2, 2, 2, 1, 2]]
  private static let labelShapes: [Shape] = [[4, 3], [1, 5], [5, 17], [0, 3]]

  /// Labels of which the second is ignored; ignoring class 1 also hides others.
  private static func labels(_ logits: Shape, _ ignoreIndex: Int) -> Input {
    let list = (0..<logits[0]).map { $0 == 1 ? ignoreIndex : (3 * $0 + 2) % logits[1] }
    return .indices([logits[0]], .list(list))
  }
}
