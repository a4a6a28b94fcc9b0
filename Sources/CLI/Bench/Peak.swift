import ApusTensor
import CApusKernels

/// What the machine itself can do: the yardstick the other figures are a share of.
struct Peak {
  let threads: Int
  /// The best round's rate and the usual one: virtual cores do not keep their speed.
  let gflops, medianGflops: Double
  let copyGBps, readGBps: Double

  static func measure(threads: Int, seconds: Double) -> Peak {
    // The best of several short runs: others may be using the cores.
    let rounds = 8
    let share = seconds / Double(3 * rounds)
    var (flops, copy, read) = (0.0, 0.0, 0.0)
    var medians: [Double] = []
    for _ in 0..<rounds {
      var median = 0.0
      flops = max(flops, apus_measure_fma_gflops(Int32(threads), share, &median))
      medians.append(median)
      copy = max(copy, apus_measure_copy_gbps(Int32(threads), 256 << 20, share))
      read = max(read, apus_measure_read_gbps(Int32(threads), 512 << 20, share))
    }
    return Peak(threads: threads, gflops: flops, medianGflops: medians.sorted()[rounds / 2], copyGBps: copy, readGBps: read)
  }

  var text: String {
    """
    peak (\(threads) thread\(threads == 1 ? "" : "s"), \(String(cString: apus_isa_name(apus_current_isa()))))
      float32 multiply-add  \(decimals(gflops, 1)) GFLOP/s at best, \(decimals(medianGflops, 1)) at the median
      copy of 256 MiB       \(decimals(copyGBps, 1)) GB/s read + written
      reading 512 MiB       \(decimals(readGBps, 1)) GB/s
    """
  }

  var json: String {
    """
    {"workload": "peak", "threads": \(threads), "fma_gflops": \(decimals(gflops, 2)), \
    "fma_gflops_median": \(decimals(medianGflops, 2)), "copy_gbps": \(decimals(copyGBps, 2)), "read_gbps": \(decimals(readGBps, 2)), \
    "isa": "\(String(cString: apus_isa_name(apus_current_isa())))"}
    """
  }
}
