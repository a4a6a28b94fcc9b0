import ArgumentParser

struct Train: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a model on real data.", subcommands: [TrainReviews.self])
}
