extension Trainer {
  final func resume(_ run: FitRun) throws -> Bool { false }
  final func writeRequestedCheckpoints() throws {}
}
