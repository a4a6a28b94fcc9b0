import Apus
import ApusTensor
import ArgumentParser

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what is in a file: an artifact's signatures, programs and weights; names, types, shapes, sizes of tensors.")

  @Argument(help: "An artifact (.apus), .safetensors, the .safetensors.index.json of a sharded one, .npz or .npy.")
  var file: String

  @Flag(help: "Of an artifact: its program as StableHLO text.")
  var graph = false

  @Option(help: "Of an artifact: draw the program as it runs, with fused groups, to FILE.svg or FILE.dot.")
  var picture: String?

  @Option(help: "Of an artifact: which of its functions.")
  var signature: String?

  @Option(help: "With --picture: the size of an open dimension, as in batch=8.")
  var size: [String] = []

  func validate() throws {
    if (graph || picture != nil) && !Workload.isArtifact(file) {
      throw ValidationError("--graph and --picture are for artifacts, whose names end in .apus.")
    }
    if let picture, !picture.hasSuffix(".svg") && !picture.hasSuffix(".dot") {
      throw ValidationError("--picture \(picture) ends neither in .svg nor in .dot.")
    }
  }

  func run() throws {
    if Workload.isArtifact(file) { return try showArtifact() }
    if file.hasSuffix(".npz") { return try showNPZ() }
    if file.hasSuffix(".npy") { return try showNPY() }
    if file.hasSuffix(".json") {
      let shards = try SafetensorsShards(indexPath: file)
      print("\(file): \(shards.files.count) file\(shards.files.count == 1 ? "" : "s")")
      for (name, part) in shards.files.sorted(by: { $0.key < $1.key }) { show(part, title: name) }
    } else {
      show(try SafetensorsFile(path: file), title: file)
    }
  }

  func show(_ file: SafetensorsFile, title: String) {
    let rows = file.entries.map { entry in
      (
        printable(entry.name), entry.dataType.rawValue, "[" + entry.shape.map(String.init).joined(separator: ", ") + "]",
        entry.range.count
      )
    }
    let parameters = file.entries.reduce(0) { $0 &+ $1.shape.reduce(1, &*) }
    let bytes = rows.reduce(0) { $0 + $1.3 }
    print("\(title): \(rows.count) tensors, \(grouped(parameters)) elements, \(byteSize(bytes))")
    for (key, value) in file.metadata.sorted(by: { $0.key < $1.key }) { print("  \(printable(key)): \(printable(value))") }
    let name = rows.map(\.0.count).max() ?? 0
    let shape = rows.map(\.2.count).max() ?? 0
    for row in rows {
      print("  \(padded(row.0, name))  \(padded(row.1, 4))  \(padded(row.2, shape))  \(byteSize(row.3))")
    }
  }

  /// Names come from the file: control characters must not reach the terminal.
  func printable(_ text: String) -> String {
    String(
      text.unicodeScalars.prefix(200).flatMap { scalar -> [Character] in
        scalar.value < 32 || (127..<160).contains(scalar.value)
          ? Array("\\u{\(String(scalar.value, radix: 16))}") : [Character(scalar)]
      })
  }
}

func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }

/// 1234567 as 1,234,567.
func grouped(_ value: Int) -> String {
  var digits = String(abs(value))
  var parts: [String] = []
  while digits.count > 3 {
    parts.insert(String(digits.suffix(3)), at: 0)
    digits.removeLast(3)
  }
  return (value < 0 ? "-" : "") + ([digits] + parts).joined(separator: ",")
}

func byteSize(_ bytes: Int) -> String {
  for (scale, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] where bytes >= scale {
    return "\(decimals(Double(bytes) / Double(scale), 2)) \(unit)"
  }
  return "\(bytes) B"
}
