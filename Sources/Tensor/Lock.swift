import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

#if APUS_SANITIZE_THREAD
  /// What stands for `Mutex` in `make test-threads`.
  ///
  /// A `Mutex` that is free is taken by code inlined here, which the sanitizer sees; one that is held is waited for in
  /// `Synchronization._MutexHandle._lockSlow`, in a library of the toolchain that is built without the sanitizer. What a
  /// waiting thread then reads would be reported as a race, although the lock orders it. The sanitizer knows pthread's locks.
  package final class Lock<Value>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var value: Value

    package init(_ value: sending Value) {
      self.value = value
      pthread_mutex_init(mutex, nil)
    }

    deinit {
      pthread_mutex_destroy(mutex)
      mutex.deallocate()
    }

    package func withLock<Result, Failure: Error>(
      _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      return try body(&value)
    }
  }
#else
  package typealias Lock<Value: ~Copyable> = Mutex<Value>
#endif
