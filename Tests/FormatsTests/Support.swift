import ApusFormats
import Foundation
import Testing

/// The bytes of a file beside these tests.
func fixture(_ name: String) throws -> [UInt8] {
  let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures")
  return Array(try Data(contentsOf: folder.appendingPathComponent(name)))
}

/// Calls `body` with a new folder that is removed afterwards.
func withTemporaryFolder(_ body: (String) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try body(folder.path)
}

/// The error that `body` throws; a failure of the test when there is none.
func formatError(_ body: () throws -> Void) -> FormatError? {
  do {
    try body()
    Issue.record("nothing was thrown")
  } catch let error as FormatError {
    return error
  } catch {
    Issue.record("another error: \(error)")
  }
  return nil
}

/// Pseudo-random numbers from a seed (splitmix64), the same on every machine.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}

/// The bytes that `make_fixtures.py` compresses: its function of the same name.
func pattern(_ count: Int) -> [UInt8] {
  var state: UInt32 = 1
  var result: [UInt8] = []
  let words = ["swift ", "apus ", "tensor ", "0123456789", "\n"].map { Array($0.utf8) }
  while result.count < count {
    state = state &* 1_664_525 &+ 1_013_904_223
    let top = Int(state >> 24)
    if top < 200 { result += words[top % 5] } else { result += [UInt8(top), UInt8(truncatingIfNeeded: state >> 16)] }
  }
  return Array(result.prefix(count))
}
