import Apus

extension Workload {
  static let training: [Workload] = []
}
