import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Ctrl-C as a wish that training stops in order: after ``install()`` the first interruption makes `fit`, `evaluate` and `predict`
/// throw `CancellationError` once they have written what they should; the second ends the process.
public enum Interruption {
  private static let requested = Atomic<Bool>(false)

  /// Whether the process was asked to stop.
  public static var isRequested: Bool { requested.load(ordering: .relaxed) }

  /// Takes over SIGINT and SIGTERM; for programs, not for libraries.
  public static func install() {
    let handler: @convention(c) (Int32) -> Void = { number in
      Interruption.requested.store(true, ordering: .relaxed)
      signal(number, SIG_DFL)
    }
    signal(SIGINT, handler)
    signal(SIGTERM, handler)
  }

  /// Forgets the wish.
  public static func reset() { requested.store(false, ordering: .relaxed) }
}
