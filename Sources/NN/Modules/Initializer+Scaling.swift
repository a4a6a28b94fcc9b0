import ApusTensor

// Keras's initializers, over weights [out, in, kernel…] as everywhere in Apus; Keras's kernels are [kernel…, in, out].

extension Initializer {
  /// What numbers are drawn from.
  public enum Distribution: Sendable {
    /// Normal, cut off two standard deviations from 0; the variance is that of what is left.
    case truncatedNormal
    case untruncatedNormal
    case uniform
  }

  /// Keras's RandomNormal.
  public static func randomNormal(mean: Double = 0, standardDeviation: Double = 0.05) -> Initializer {
    normal(mean: mean, standardDeviation: standardDeviation)
  }

  /// Keras's RandomUniform: in [minimum, maximum).
  public static func randomUniform(minimum: Double = -0.05, maximum: Double = 0.05) -> Initializer { uniform(minimum, maximum) }

  /// Normal, but only values within so many standard deviations of the mean; with 2, Keras's TruncatedNormal.
  public static func truncatedNormal(
    mean: Double = 0, standardDeviation: Double = 0.05, deviations: Double
  ) -> Initializer {
    let reach = deviations * standardDeviation
    return truncatedNormal(mean: mean, standardDeviation: standardDeviation, low: mean - reach, high: mean + reach)
  }

  /// Of variance scale / fan, whatever the distribution; Keras's VarianceScaling.
  /// - Parameter mode: which fan: that of the inputs, of the outputs, or the mean of both.
  public static func varianceScaling(
    scale: Double = 1, mode: FanMode = .fanIn, distribution: Distribution = .truncatedNormal
  ) -> Initializer {
    guard scale > 0 else { stop("varianceScaling: the scale \(scale) is not positive") }
    return Initializer { shape, type, generator in
      let variance = scale / Swift.max(1, mode.fan(fans(of: shape)))
      switch distribution {
      case .truncatedNormal:
        // The standard deviation of a standard normal variable cut off at ± 2.
        let deviation = variance.squareRoot() / 0.879_625_661_034_239_78
        return Tensor.truncatedNormal(shape, standardDeviation: deviation, type, generator: generator)
      case .untruncatedNormal:
        return Tensor.normal(shape, standardDeviation: variance.squareRoot(), type, generator: generator)
      case .uniform:
        let bound = (3 * variance).squareRoot()
        return Tensor.uniform(shape, low: -bound, high: bound, type, generator: generator)
      }
    }
  }

  /// Uniform with variance 2 / (fan in + fan out): ``xavierUniform(gain:)`` under Keras's name.
  public static let glorotUniform = varianceScaling(mode: .fanAvg, distribution: .uniform)
  /// Truncated normal with variance 2 / (fan in + fan out); Keras's GlorotNormal.
  public static let glorotNormal = varianceScaling(mode: .fanAvg)
  /// Uniform with variance 2 / fan in: ``kaimingUniform(slope:mode:)`` under Keras's name.
  public static let heUniform = varianceScaling(scale: 2, distribution: .uniform)
  /// Truncated normal with variance 2 / fan in; Keras's HeNormal.
  public static let heNormal = varianceScaling(scale: 2)
  /// Uniform with variance 1 / fan in (LeCun et al. 1998).
  public static let lecunUniform = varianceScaling(distribution: .uniform)
  /// Truncated normal with variance 1 / fan in (LeCun et al. 1998).
  public static let lecunNormal = varianceScaling()
}
