import ApusIR
import ApusCPU
import ArgumentParser
import CApusKernels

struct Info: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Show what this machine offers and what Apus uses of it.")

  func run() {
    let isa = apus_current_isa()
    var features = [String(cString: apus_isa_name(isa))]
    if apus_has_avx512_bf16() { features.append(apus_use_bf16_dot() ? "avx512_bf16" : "avx512_bf16 (slow here, not used)") }
    if apus_has_avx512_vnni() { features.append("avx512_vnni") }
    let best = String(cString: apus_isa_name(apus_best_isa()))
    print("apus        \(apusVersion)")
    #if swift(>=6.3)
      print("swift       6.3 or later")
    #elseif swift(>=6.2)
      print("swift       6.2")
    #endif
    #if DEBUG
      print("build       debug (kernels optimized)")
    #else
      print("build       release")
    #endif
    #if arch(x86_64)
      print("processor   x86_64")
    #elseif arch(arm64)
      print("processor   arm64")
    #endif
    print("kernels     \(features.joined(separator: ", ")) (best here: \(best); APUS_ISA forces a lower one)")
    print("threads     \(apus_thread_count()) (APUS_NUM_THREADS sets it)")
  }
}
