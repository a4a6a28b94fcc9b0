import ApusTensor

/// [batch, channels, size…] at another resolution; see ``interpolate(_:size:scaleFactor:mode:alignCorners:antialias:)``.
/// For 1 to 3 spatial dimensions; Keras's UpSampling layers are this one.
public final class Upsample: Module, Layer {
  private let size: (any SpatialSizes)?
  private let scaleFactor: (any ScaleFactors)?
  public let mode: InterpolationMode
  public let alignCorners: Bool

  /// - Parameters:
  ///   - size: the new spatial size: one number, or one for each dimension.
  ///   - scaleFactor: instead of a size: the new one is ⌊size · factor⌋.
  public init(
    size: (any SpatialSizes)? = nil, scaleFactor: (any ScaleFactors)? = nil, mode: InterpolationMode = .nearest,
    alignCorners: Bool = false
  ) {
    guard (size == nil) != (scaleFactor == nil) else { stop("Upsample: takes either size or scaleFactor") }
    (self.size, self.scaleFactor, self.mode, self.alignCorners) = (size, scaleFactor, mode, alignCorners)
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    return recorded(interpolate(x, size: size, scaleFactor: scaleFactor, mode: mode, alignCorners: alignCorners))
  }

  override var members: [Member] { [] }
  override var arguments: String {
    let target =
      size.map { "size: \(brief($0.spatialSizes))" } ?? "scaleFactor: \(scaleFactor.map { briefly($0.scaleFactors) } ?? "")"
    return target + ", mode: .\(mode)" + (alignCorners ? ", alignCorners: true" : "")
  }

  private func briefly(_ factors: [Double]) -> String { factors.count == 1 ? "\(factors[0])" : "\(factors)" }
}

/// Channels as places: [batch, channels · r², height, width] → [batch, channels, height · r, width · r] (Shi et al. 2016).
public final class PixelShuffle: Module, Layer {
  public let upscaleFactor: Int
  public init(_ upscaleFactor: Int) { self.upscaleFactor = upscaleFactor }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(pixelShuffle(received(x), upscaleFactor: upscaleFactor)) }
  override var members: [Member] { [] }
  override var arguments: String { "\(upscaleFactor)" }
}

/// The inverse of ``PixelShuffle``: [batch, channels, height · r, width · r] → [batch, channels · r², height, width].
public final class PixelUnshuffle: Module, Layer {
  public let downscaleFactor: Int
  public init(_ downscaleFactor: Int) { self.downscaleFactor = downscaleFactor }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(pixelUnshuffle(received(x), downscaleFactor: downscaleFactor)) }
  override var members: [Member] { [] }
  override var arguments: String { "\(downscaleFactor)" }
}

/// The channels of [batch, channels, size…] dealt out in turn: of `groups` groups first the first of each, then the second…
/// (Zhang et al. 2018).
public final class ChannelShuffle: Module, Layer {
  public let groups: Int
  public init(_ groups: Int) { self.groups = groups }
  public func callAsFunction(_ x: Tensor) -> Tensor { recorded(channelShuffle(received(x), groups: groups)) }
  override var members: [Member] { [] }
  override var arguments: String { "\(groups)" }
}

/// The windows of a convolution as columns: [batch, channels, size…] → [batch, channels · kernel…, windows].
public final class Unfold: Module, Layer {
  private let kernelSize, dilation, padding, stride: any SpatialSizes

  public init(
    _ kernelSize: some SpatialSizes, dilation: some SpatialSizes = 1, padding: some SpatialSizes = 0,
    stride: some SpatialSizes = 1
  ) { (self.kernelSize, self.dilation, self.padding, self.stride) = (kernelSize, dilation, padding, stride) }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    return recorded(
      unfold(
        x, kernelSize: kernelSize.spatialSizes, dilation: dilation.spatialSizes, padding: padding.spatialSizes,
        stride: stride.spatialSizes))
  }

  override var members: [Member] { [] }
  override var arguments: String { windowArguments(kernelSize, dilation, padding, stride) }
}

/// The sum of windows where they overlap: [batch, channels · kernel…, windows] → [batch, channels, output size…].
public final class Fold: Module, Layer {
  public let outputSize: [Int]
  private let kernelSize, dilation, padding, stride: any SpatialSizes

  /// - Parameter outputSize: one number for each spatial dimension.
  public init(
    _ outputSize: [Int], kernelSize: some SpatialSizes, dilation: some SpatialSizes = 1, padding: some SpatialSizes = 0,
    stride: some SpatialSizes = 1
  ) {
    self.outputSize = outputSize
    (self.kernelSize, self.dilation, self.padding, self.stride) = (kernelSize, dilation, padding, stride)
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    return recorded(
      fold(
        x, outputSize: outputSize, kernelSize: kernelSize.spatialSizes, dilation: dilation.spatialSizes,
        padding: padding.spatialSizes, stride: stride.spatialSizes))
  }

  override var members: [Member] { [] }
  override var arguments: String { "\(outputSize), kernelSize: " + windowArguments(kernelSize, dilation, padding, stride) }
}

private func windowArguments(
  _ kernelSize: any SpatialSizes, _ dilation: any SpatialSizes, _ padding: any SpatialSizes, _ stride: any SpatialSizes
) -> String {
  var text = brief(kernelSize.spatialSizes)
  for (name, sizes, plain) in [("dilation", dilation, 1), ("padding", padding, 0), ("stride", stride, 1)]
  where sizes.spatialSizes.contains(where: { $0 != plain }) { text += ", \(name): \(brief(sizes.spatialSizes))" }
  return text
}
