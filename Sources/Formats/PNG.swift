import ApusTensor

/// Pictures of 8 bits per channel as PNG files (PNG specification, third edition).
///
/// ```swift
/// try PNG.write(picture, to: "kernels.png")            // a tensor [channels, height, width] or [height, width]
/// let bytes = try PNG.encode(pixels, width: 640, height: 480, channels: 3)
/// ```
public enum PNG {
  /// A picture as a PNG file's bytes.
  /// - Parameters:
  ///   - pixels: row by row from the top, each pixel's channels together: height · width · channels bytes.
  ///   - channels: 1 (grey), 2 (grey, alpha), 3 (red, green, blue) or 4 (with alpha).
  public static func encode(_ pixels: [UInt8], width: Int, height: Int, channels: Int) throws(FormatError) -> [UInt8] {
    guard (1...4).contains(channels) else {
      throw FormatError(.unsupported, file: "PNG", "a picture has 1, 2, 3 or 4 channels, not \(channels)")
    }
    let sides = 1...Int(Int32.max)
    guard sides.contains(width), sides.contains(height) else {
      throw FormatError(.unsupported, file: "PNG", "a picture of \(width) × \(height) pixels")
    }
    let (row, rowOverflow) = width.multipliedReportingOverflow(by: channels)
    let (size, overflow) = row.multipliedReportingOverflow(by: height)
    guard !rowOverflow, !overflow, pixels.count == size else {
      throw FormatError(
        .sizeMismatch, file: "PNG", "\(width) × \(height) pixels of \(channels) channels are not \(pixels.count) bytes")
    }
    var file: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]
    let colour: [UInt8] = [0, 4, 2, 6]
    append("IHDR", bigEndian(width) + bigEndian(height) + [8, colour[channels - 1], 0, 0, 0], to: &file)
    let filtered = filter(pixels, row: row, height: height, step: channels)
    append("IDAT", filtered.withUnsafeBytes { Zlib.compress($0) }, to: &file)
    append("IEND", [], to: &file)
    return file
  }

  /// A picture as a PNG file's bytes.
  /// - Parameter image: [height, width], [channels, height, width] or, if `channelsLast`, [height, width, channels]; uint8 as it is,
  ///   floats from 0 (dark) to 1. Values beyond are cut off, NaN is 0.
  public static func encode(_ image: Tensor, channelsLast: Bool = false) throws(FormatError) -> [UInt8] {
    let shape = Array(image.shape)
    guard shape.count == 2 || shape.count == 3 else {
      throw FormatError(.unsupported, file: "PNG", "a picture is [channels, height, width] or [height, width], not \(shape)")
    }
    let picture = shape.count == 2 ? image.expanded(at: 2) : channelsLast ? image : image.transposed([1, 2, 0])
    return try encode(
      bytes(of: picture), width: picture.shape[1], height: picture.shape[0], channels: picture.shape[2])
  }

  /// Writes a picture, atomically; see ``encode(_:channelsLast:)``.
  public static func write(_ image: Tensor, channelsLast: Bool = false, to path: String) throws {
    let bytes = try encode(image, channelsLast: channelsLast)
    try AtomicFile.write(to: path) { file in try file.write(bytes) }
  }

  /// 0…1 as 0…255, rounded to the nearest.
  private static func bytes(of image: Tensor) throws(FormatError) -> [UInt8] {
    if image.elementType == .uint8 { return image.elements(as: UInt8.self) }
    guard image.elementType.isFloatingPoint else {
      throw FormatError(.unsupported, file: "PNG", "a picture's values are uint8 or floats, not \(image.elementType)")
    }
    return image.converted(to: .float32).floats.map { value in
      value.isNaN ? 0 : UInt8((min(max(value, 0), 1) * 255).rounded())
    }
  }

  private static func bigEndian(_ value: Int) -> [UInt8] { [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) } }

  private static func append(_ type: String, _ content: [UInt8], to file: inout [UInt8]) {
    let body = Array(type.utf8) + content
    file += bigEndian(content.count) + body
    file += bigEndian(Int(body.withUnsafeBytes { CRC32.checksum($0) }))
  }

  /// Each row as differences to its neighbours, by the filter whose absolute differences are the smallest: the specification's advice.
  private static func filter(_ pixels: [UInt8], row: Int, height: Int, step: Int) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity((row + 1) * height)
    var attempts = [[UInt8]](repeating: [UInt8](repeating: 0, count: row), count: 5)
    let zeros = [UInt8](repeating: 0, count: row)
    for y in 0..<height {
      let current = Array(pixels[y * row..<(y + 1) * row])
      let above = y == 0 ? zeros : Array(pixels[(y - 1) * row..<y * row])
      var best = (kind: 0, cost: Int.max)
      for kind in 0..<5 {
        var cost = 0
        for x in 0..<row {
          let left = x >= step ? current[x - step] : 0
          let corner = x >= step ? above[x - step] : 0
          let guess: UInt8
          switch kind {
          case 1: guess = left
          case 2: guess = above[x]
          case 3: guess = UInt8((Int(left) + Int(above[x])) / 2)
          case 4: guess = paeth(Int(left), Int(above[x]), Int(corner))
          default: guess = 0
          }
          let difference = current[x] &- guess
          attempts[kind][x] = difference
          cost += abs(Int(Int8(bitPattern: difference)))
        }
        if cost < best.cost { best = (kind, cost) }
      }
      result.append(UInt8(best.kind))
      result += attempts[best.kind]
    }
    return result
  }

  /// Whichever of the three neighbours is nearest to left + above − corner.
  private static func paeth(_ left: Int, _ above: Int, _ corner: Int) -> UInt8 {
    let (a, b, c) = (abs(above - corner), abs(left - corner), abs(left + above - 2 * corner))
    return UInt8(a <= b && a <= c ? left : b <= c ? above : corner)
  }
}
