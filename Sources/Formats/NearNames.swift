/// How many letters must be added, removed or replaced to make one of the other; nil if more than `limit` (Levenshtein 1966).
package func editDistance(_ a: String, _ b: String, limit: Int) -> Int? {
  let (x, y) = (Array(a.utf8), Array(b.utf8))
  if Swift.abs(x.count - y.count) > limit { return nil }
  var row = Array(0...y.count)
  for i in x.indices {
    var diagonal = row[0]
    row[0] = i + 1
    for j in y.indices {
      let replaced = diagonal + (x[i] == y[j] ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = Swift.min(replaced, row[j] + 1, diagonal + 1)
    }
  }
  return row[y.count] <= limit ? row[y.count] : nil
}

/// The name most like this one, if one is like it.
package func nearName(_ name: String, in names: some Collection<String>) -> String? {
  guard name.utf8.count <= 200 else { return nil }
  let limit = Swift.max(2, name.utf8.count / 2)
  let ranked = names.prefix(2_000).sorted().compactMap { other -> (Int, String)? in
    guard other.utf8.count <= 200 else { return nil }
    return editDistance(name, other, limit: limit).map { ($0, other) }
  }
  return ranked.min { $0.0 < $1.0 }?.1
}
