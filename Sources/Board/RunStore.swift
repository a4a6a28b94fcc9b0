import ApusCPU
import ApusFormats

/// Everything that was read of the runs below a folder. Files are looked at again when somebody asks, and only what is new is read.
actor RunStore {
  private struct File {
    /// Its number among its run's files.
    let number: Int
    var offset = 0
    /// When it was read last.
    var size = -1
    /// There is more to read although the size is the same.
    var isUnfinished = false
    var isDamaged = false
  }

  let folder: String
  private(set) var runs: [Run] = []
  /// Changes whenever something was read.
  private(set) var version = 0
  /// Whether there is more to read than one refresh does.
  private(set) var isLoading = false
  private var runNumbers: [String: Int] = [:]
  private var files: [String: File] = [:]
  private var lastScan = -Double.infinity
  private var lastRefresh = -Double.infinity
  private var found: [String: [String]] = [:]
  /// So long, in seconds, a refresh may take before it answers with what it has; and how often one is made.
  private let budget, interval: Double
  private static let scanInterval = 2.0

  init(folder: String, budget: Double = 0.25, interval: Double = 0.5) throws(FormatError) {
    self.folder = try RunFolder.checked(folder)
    (self.budget, self.interval) = (budget, interval)
  }

  /// Reads what is new, unless that was done a moment ago.
  func refresh() {
    let start = monotonicSeconds()
    guard isLoading || start - lastRefresh >= interval else { return }
    if start - lastScan >= max(Self.scanInterval, interval) || interval == 0 {
      found = RunFolder.eventFiles(below: folder)
      lastScan = start
    }
    isLoading = false
    // Before any reading: one slow run must not hide the others' names.
    for name in found.keys.sorted(by: Self.inOrder) where runNumbers[name] == nil {
      runNumbers[name] = runs.count
      runs.append(Run(id: runs.count, name: name))
      version += 1
    }
    for (name, paths) in found.sorted(by: { Self.inOrder($0.key, $1.key) }) {
      guard let run = runNumbers[name] else { continue }
      for path in paths { read(path, into: run, until: start + budget) }
    }
    lastRefresh = monotonicSeconds()
  }

  private func read(_ path: String, into run: Int, until deadline: Double) {
    var file = files[path] ?? File(number: runs[run].fileCount)
    guard !file.isDamaged, let size = RunFolder.size(of: path), size != file.size || file.isUnfinished else { return }
    if files[path] == nil { runs[run].fileCount += 1 }
    defer { files[path] = file }
    guard monotonicSeconds() < deadline else {
      (file.isUnfinished, isLoading) = (true, true)
      return
    }
    // Opened for this reading alone: there may be more files than a process may hold open.
    let reader: EventFileReader
    do { reader = try EventFileReader(path, offset: file.offset) } catch { return note(error, path, run) }
    file.size = size
    file.isUnfinished = false
    var events = 0
    while true {
      let offset = reader.offset
      do {
        guard let event = try reader.next() else { break }
        runs[run].add(event, file: file.number, path: path, offset: offset)
        version += 1
      } catch {
        note(error, path, run)
        // A damaged length is the end; behind a damaged record there may be whole ones.
        if reader.offset == offset {
          file.isDamaged = true
          break
        }
      }
      events += 1
      if events % 64 == 0, monotonicSeconds() > deadline {
        (file.isUnfinished, isLoading) = (true, true)
        break
      }
    }
    file.offset = reader.offset
  }

  private func note(_ error: FormatError, _ path: String, _ run: Int) {
    let text = error.description.replacingPrefix(folder + "/")
    if runs[run].problems.updateValue(text, forKey: path) != text { version += 1 }
  }

  /// Numbers in names by their value: run2 before run10.
  static func inOrder(_ a: String, _ b: String) -> Bool {
    func pieces(_ text: String) -> [(Int, String)] {
      var result: [(Int, String)] = []
      var digits = ""
      func flush() {
        if let number = Int(digits) { result.append((number, digits)) } else if !digits.isEmpty { result.append((.max, digits)) }
        digits = ""
      }
      for character in text {
        if ("0"..."9").contains(character) {
          digits.append(character)
        } else {
          flush()
          result.append((-1, String(character)))
        }
      }
      flush()
      return result
    }
    let (left, right) = (pieces(a), pieces(b))
    for (x, y) in zip(left, right) where x != y { return x < y }
    return left.count < right.count
  }
}

extension String {
  fileprivate func replacingPrefix(_ prefix: String) -> String { hasPrefix(prefix) ? String(dropFirst(prefix.count)) : self }
}
