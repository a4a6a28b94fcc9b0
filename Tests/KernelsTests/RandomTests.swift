import CApusKernels
import Foundation
import Testing

private let realTypes = [APUS_F16, APUS_BF16, APUS_F32, APUS_F64]

/// The greatest distance between the empirical and the given distribution function, times the root of the count
/// (Kolmogorov). Above 2.2 with probability 1.3e-4 for a true sample; the keys are fixed, so a pass stays a pass.
private func kolmogorov(_ sample: [Double], _ cdf: (Double) -> Double) -> Double {
  let sorted = sample.sorted(), n = Double(sorted.count)
  var distance = 0.0
  for (i, x) in sorted.enumerated() {
    let f = cdf(x)
    distance = max(distance, max(f - Double(i) / n, Double(i + 1) / n - f))
  }
  return distance * n.squareRoot()
}

private func normalCDF(_ x: Double) -> Double { erfc(-x / 2.0.squareRoot()) / 2 }

/// Mean, variance, skewness and kurtosis.
private func moments(_ x: [Double]) -> (mean: Double, variance: Double, skewness: Double, kurtosis: Double) {
  let n = Double(x.count), mean = x.reduce(0, +) / n
  var m2 = 0.0, m3 = 0.0, m4 = 0.0
  for v in x {
    let d = v - mean
    m2 += d * d
    m3 += d * d * d
    m4 += d * d * d * d
  }
  m2 /= n
  return (mean, m2, m3 / n / (m2 * m2.squareRoot()), m4 / n / (m2 * m2))
}

private func sample(_ type: apus_type, _ count: Int, _ body: (Int32, UnsafeMutableRawPointer, Int64) -> Void) -> [Double] {
  let m = TypedMemory(type, count)
  body(Int32(type.rawValue), m.bytes, Int64(count))
  return (0..<count).map { m[$0] }
}

extension KernelStateTests {
  @Suite struct RandomTests {
    /// The published known-answer vectors of Random123 for philox4x32 with 10 rounds.
    @Test func knownAnswers() {
      let answers: [(counter: [UInt32], key: [UInt32], result: [UInt32])] = [
        ([0, 0, 0, 0], [0, 0], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([~0, ~0, ~0, ~0], [~0, ~0], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
          [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0],
          [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        ),
      ]
      for answer in answers {
        var result = [UInt32](repeating: 0, count: 4)
        apus_philox(answer.counter, answer.key, &result)
        #expect(result == answer.result)
      }
    }

    /// Word w is word w % 4 of block w / 4, whatever part of the stream is asked for, also where the block number
    /// passes 2^32.
    @Test func streamsDoNotDependOnHowTheyAreCut() {
      defer { apus_set_isa(apus_best_isa()) }
      let key: UInt64 = 0x0123_4567_89ab_cdef
      for isa in availableSets() {
        apus_set_isa(isa)
        for start in [0, 1, 7, (1 << 34) - 61] as [UInt64] {
          for count in Array(0..<40) + [63, 64, 65, 127, 129, 1000] {
            var words = [UInt32](repeating: 0, count: count + 1)
            apus_random_bits(key, start, &words, Int64(count))
            for i in 0..<count {
              let word = start + UInt64(i), block = word / 4
              var expected = [UInt32](repeating: 0, count: 4)
              apus_philox(
                [UInt32(truncatingIfNeeded: block), UInt32(block >> 32), 0, 0],
                [UInt32(truncatingIfNeeded: key), UInt32(key >> 32)],
                &expected)
              #expect(words[i] == expected[Int(word % 4)], "isa \(isa), word \(word)")
            }
            #expect(words[count] == 0)
          }
        }
      }
    }

    @Test func sameBitsOnEveryInstructionSetAndThreadCount() {
      defer {
        apus_set_isa(apus_best_isa())
        apus_set_thread_count(2)
      }
      func all(_ count: Int) -> [TypedMemory] {
        var results = [TypedMemory]()
        let n = Int64(count)
        for type in realTypes {
          let t = Int32(type.rawValue)
          let fills: [(UnsafeMutableRawPointer) -> Void] = [
            { apus_random_uniform(t, 5, 3, $0, n, -2, 7) }, { apus_random_normal(t, 5, 3, $0, n, 1, 3) },
            { apus_random_truncated_normal(t, 5, 3, $0, n, 0, 1, -1, 2.5) }, { apus_random_exponential(t, 5, 3, $0, n, 0.5) },
          ]
          for fill in fills {
            results.append(TypedMemory(type, count))
            fill(results.last!.bytes)
          }
        }
        for type in [APUS_U8, APUS_I8, APUS_I16, APUS_I32, APUS_I64] {
          results.append(TypedMemory(type, count))
          apus_random_integers(Int32(type.rawValue), 5, 3, results.last!.bytes, n, 0, 100)
          results.append(TypedMemory(type, count))
          apus_random_bernoulli(Int32(type.rawValue), 5, 3, results.last!.bytes, n, 0.25)
        }
        return results
      }
      for count in [1, 33, 40_001] {
        apus_set_isa(apus_best_isa())
        apus_set_thread_count(1)
        let expected = all(count)
        for isa in availableSets() {
          for threads in [1, 2, 3, 8] {
            apus_set_isa(isa)
            apus_set_thread_count(Int32(threads))
            for (i, (got, one)) in zip(all(count), expected).enumerated() {
              let bytes = count * Int(apus_type_size(Int32(one.type.rawValue)))
              #expect(memcmp(got.bytes, one.bytes, bytes) == 0, "fill \(i) of \(count), isa \(isa), \(threads) threads")
            }
          }
        }
      }
    }

    /// The definition of every uniform value by its words.
    @Test func uniformIsTheTopBitsOfItsWords() {
      let n = 3000
      var words = [UInt32](repeating: 0, count: 2 * n)
      apus_random_bits(9, 4, &words, Int64(2 * n))
      for (type, bits) in [(APUS_F16, 11), (APUS_BF16, 8), (APUS_F32, 24)] {
        let x = sample(type, n) { apus_random_uniform($0, 9, 4, $1, $2, 0, 1) }
        for i in 0..<n { #expect(x[i] == Double(words[i] >> UInt32(32 - bits)) / Double(1 << bits)) }
      }
      let x = sample(APUS_F64, n) { apus_random_uniform($0, 9, 4, $1, $2, 0, 1) }
      for i in 0..<n {
        let word = UInt64(words[2 * i]) | UInt64(words[2 * i + 1]) << 32
        #expect(x[i] == Double(word >> 11) * 0x1p-53)
      }
    }

    @Test func uniformStaysBelowItsUpperBound() {
      for type in realTypes {
        // Few values of the type lie in [1024, 1026): rounding up would reach 1026.
        let x = sample(type, 20_000) { apus_random_uniform($0, 1, 0, $1, $2, 1024, 1026) }
        #expect(x.allSatisfy { $0 >= 1024 && $0 < 1026 })
        let whole = sample(type, 2000) { apus_random_uniform($0, 1, 0, $1, $2, -65504, 65504) }
        #expect(
          whole.allSatisfy { $0 >= -65504 && $0 < 65504 } && whole.contains { $0 < -30000 } && whole.contains { $0 > 30000 })
      }
      let greatest = Double(Float.greatestFiniteMagnitude)
      let empty = sample(APUS_BF16, 100) { apus_random_uniform($0, 1, 0, $1, $2, 1.001, 1.002) }
      #expect(empty.allSatisfy { $0 == 1 })
      let x = sample(APUS_F32, 2000) { apus_random_uniform($0, 1, 0, $1, $2, -greatest, greatest) }
      #expect(x.allSatisfy { $0.isFinite } && x.contains { $0 < 0 } && x.contains { $0 > 0 })
    }

    @Test func uniformIsUniform() {
      for type in [APUS_F32, APUS_F64] {
        let x = sample(type, 100_000) { apus_random_uniform($0, 11, 0, $1, $2, 2, 5) }
        #expect(kolmogorov(x) { ($0 - 2) / 3 } < 2.2)
        let m = moments(x)
        // Standard errors at 100,000: mean 0.0027, variance 0.0021; five of them.
        #expect(abs(m.mean - 3.5) < 0.014 && abs(m.variance - 0.75) < 0.011)
        // Neighbours are uncorrelated: the standard error of the correlation is 1 / sqrt(n).
        var product = 0.0
        for i in 1..<x.count { product += (x[i] - 3.5) * (x[i - 1] - 3.5) }
        #expect(abs(product / Double(x.count) / 0.75) < 5 / Double(x.count).squareRoot())
      }
    }

    @Test func normalIsNormal() {
      for type in realTypes {
        let x = sample(type, 100_000) { apus_random_normal($0, 12, 0, $1, $2, 0, 1) }
        if type == APUS_F32 || type == APUS_F64 { #expect(kolmogorov(x, normalCDF) < 2.2) }
        let m = moments(x)
        // Standard errors at 100,000: 0.0032, 0.0045, 0.0077, 0.0155; five of them.
        #expect(abs(m.mean) < 0.016 && abs(m.variance - 1) < 0.0225 && abs(m.skewness) < 0.039 && abs(m.kurtosis - 3) < 0.078)
        #expect(x.allSatisfy { abs($0) < (type == APUS_F64 ? 8.6 : 6.7) } && x.contains { abs($0) > 3.9 })
        // The two of a pair are independent.
        var product = 0.0
        for i in stride(from: 0, to: x.count, by: 2) { product += x[i] * x[i + 1] }
        #expect(abs(product / Double(x.count / 2)) < 5 / Double(x.count / 2).squareRoot())
      }
      let x = sample(APUS_F64, 100_000) { apus_random_normal($0, 13, 0, $1, $2, -4, 3) }
      #expect(kolmogorov(x) { normalCDF(($0 + 4) / 3) } < 2.2)
    }

    /// Box-Muller by its definition, with the C library's functions on the same words.
    @Test func normalIsAccurate() {
      let n = 20_000
      var words = [UInt32](repeating: 0, count: 2 * n)
      apus_random_bits(14, 0, &words, Int64(2 * n))
      let single = sample(APUS_F32, n) { apus_random_normal($0, 14, 0, $1, $2, 0, 1) }
      let double = sample(APUS_F64, n) { apus_random_normal($0, 14, 0, $1, $2, 0, 1) }
      func word(_ i: Int) -> UInt64 { UInt64(words[2 * i]) | UInt64(words[2 * i + 1]) << 32 }
      for i in stride(from: 0, to: n, by: 2) {
        let radius = (-2 * log(Double((Float(words[i] >> 1) + 0.5) * 0x1p-31))).squareRoot()
        let angle = 2 * Double.pi * Double(words[i + 1]) * 0x1p-32
        // float32: the angle's rounding (2^-24 relative) and a few of the result.
        #expect(abs(single[i] - radius * cos(angle)) < 3e-7 * (1 + radius), "\(i)")
        #expect(abs(single[i + 1] - radius * sin(angle)) < 3e-7 * (1 + radius), "\(i)")
        let wideRadius = (-2 * log((Double(word(i) >> 12) + 0.5) * 0x1p-52)).squareRoot()
        let wideAngle = 2 * Double.pi * (Double(word(i + 1) >> 11) * 0x1p-53)
        // float64: the angle has 51 bits after its quadrant; its own error here is up to 2 pi * 2^-53.
        #expect(abs(double[i] - wideRadius * cos(wideAngle)) < 3e-15 * (1 + wideRadius), "\(i)")
        #expect(abs(double[i + 1] - wideRadius * sin(wideAngle)) < 3e-15 * (1 + wideRadius), "\(i)")
      }
    }

    @Test func truncatedNormalFollowsItsDistribution() {
      let infinity = Double.infinity
      for (low, high) in [
        (-2.0, 2.0), (-0.5, 3.0), (1.0, 1.5), (4.0, infinity), (-infinity, -5.0), (-infinity, infinity), (-9.0, -8.0),
      ] {
        // Between the tails that are small.
        func below(_ x: Double) -> Double {
          low > 0 ? (erfc(low / 2.0.squareRoot()) - erfc(x / 2.0.squareRoot())) / 2 : normalCDF(x) - normalCDF(low)
        }
        for type in realTypes {
          let x = sample(type, 20_000) { apus_random_truncated_normal($0, 15, 0, $1, $2, 0, 1, low, high) }
          #expect(x.allSatisfy { $0 >= low && $0 <= high }, "\(low)...\(high)")
          let whole = below(high)
          if type == APUS_F32 || type == APUS_F64 { #expect(kolmogorov(x) { below($0) / whole } < 2.2, "\(low)...\(high)") }
        }
      }
      let x = sample(APUS_F32, 50_000) { apus_random_truncated_normal($0, 16, 0, $1, $2, 10, 0.02, 9.96, 10.04) }
      #expect(x.allSatisfy { $0 >= 9.96 && $0 <= 10.04 })
      let whole = normalCDF(2) - normalCDF(-2)
      // 84,000 values of float32 lie between the bounds: the steps between them do not show.
      #expect(kolmogorov(x) { (normalCDF(($0 - 10) / 0.02) - normalCDF(-2)) / whole } < 2.2)
    }

    /// Quantiles of the standard normal distribution at the words' own probabilities: normalCDF undoes them.
    @Test func quantilesAreAccurate() {
      let n = 20_000
      var words = [UInt32](repeating: 0, count: 2 * n)
      apus_random_bits(17, 0, &words, Int64(2 * n))
      let x = sample(APUS_F64, n) { apus_random_truncated_normal($0, 17, 0, $1, $2, 0, 1, -.infinity, .infinity) }
      for i in 0..<n {
        let p = (Double((UInt64(words[2 * i]) | UInt64(words[2 * i + 1]) << 32) >> 12) + 0.5) * 0x1p-52
        // Relative errors of 1e-15 in x become about x^2 times that in the smaller tail.
        let tail = min(p, 1 - p), got = erfc(abs(x[i]) / 2.0.squareRoot()) / 2
        #expect(abs(got - tail) <= tail * 1e-14 * (1 + x[i] * x[i]), "\(i): \(x[i])")
        #expect((x[i] < 0) == (p < 0.5))
      }
    }

    @Test func exponentialIsExponential() {
      for type in [APUS_F32, APUS_F64] {
        let x = sample(type, 100_000) { apus_random_exponential($0, 18, 0, $1, $2, 2) }
        #expect(kolmogorov(x) { 1 - exp(-2 * $0) } < 2.2)
        #expect(x.allSatisfy { $0 >= 0 && $0.isFinite })
      }
    }

    @Test func integersAreEven() {
      for (type, low, high) in [
        (APUS_U8, 0, 256), (APUS_I8, -128, 128), (APUS_I16, -5, 8), (APUS_I32, 1_000_000, 1_000_100), (APUS_I64, -40, 60),
      ] {
        let n = 200_000, span = high - low
        let x = sample(type, n) { apus_random_integers($0, 19, 0, $1, $2, Int64(low), Int64(high)) }
        var counts = [Int](repeating: 0, count: span)
        for v in x {
          guard v >= Double(low) && v < Double(high) else {
            Issue.record("\(v) is outside \(low)..<\(high)")
            return
          }
          counts[Int(v) - low] += 1
        }
        let expected = Double(n) / Double(span)
        let chi = counts.reduce(0.0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
        // Chi squared has mean span - 1 and variance 2 (span - 1).
        #expect(abs(chi - Double(span - 1)) < 5 * Double(2 * (span - 1)).squareRoot(), "type \(type)")
      }
      // Ranges of 2^32 and beyond: the high half of the 128-bit product.
      for (low, high) in [(Int64(0), Int64(1) << 32), (Int64.min, Int64.max), (-7, Int64(1) << 40), (0, (1 << 32) - 1)] {
        var x = [Int64](repeating: 0, count: 2000)
        apus_random_integers(Int32(APUS_I64.rawValue), 20, 1, &x, 2000, low, high)
        var words = [UInt32](repeating: 0, count: 4000)
        apus_random_bits(20, 1, &words, 4000)
        let range = UInt64(bitPattern: high) &- UInt64(bitPattern: low)
        for i in 0..<2000 {
          let word = UInt64(words[2 * i]) | UInt64(words[2 * i + 1]) << 32
          #expect(x[i] == low &+ Int64(bitPattern: word.multipliedFullWidth(by: range).high))
        }
      }
    }

    @Test func bernoulliHasItsProbability() {
      for type in [APUS_U8, APUS_I8, APUS_I16, APUS_I32, APUS_I64] + realTypes {
        for probability in [0, 1e-3, 0.25, 0.5, 0.9, 1] {
          let n = 20_000
          let x = sample(type, n) { apus_random_bernoulli($0, 21, 0, $1, $2, probability) }
          #expect(x.allSatisfy { $0 == 0 || $0 == 1 })
          let deviation = (probability * (1 - probability) / Double(n)).squareRoot()
          #expect(abs(x.reduce(0, +) / Double(n) - probability) <= 5 * deviation, "type \(type), \(probability)")
        }
      }
      let flags = TypedMemory(APUS_U8, 1000)
      apus_random_bernoulli(Int32(APUS_BOOL.rawValue), 21, 0, flags.bytes, 1000, 0.5)
      let numbers = sample(APUS_F32, 1000) { apus_random_bernoulli($0, 21, 0, $1, $2, 0.5) }
      #expect((0..<1000).allSatisfy { flags[$0] == numbers[$0] })
    }

    @Test func permutationsAreEvenAndRepeatable() {
      for count in [0, 1, 2, 1000, 5000] {
        var p = [Int64](repeating: -1, count: count), again = p
        apus_random_permutation(22, 0, &p, Int64(count))
        apus_random_permutation(22, 0, &again, Int64(count))
        #expect(p == again && p.sorted() == Array(0..<Int64(count)))
      }
      // All 24 orders of 4 are equally frequent: chi squared with 23 degrees of freedom.
      var counts = [[Int64]: Int]()
      for key in 0..<24_000 {
        var p = [Int64](repeating: 0, count: 4)
        apus_random_permutation(UInt64(key), 0, &p, 4)
        counts[p, default: 0] += 1
      }
      #expect(counts.count == 24)
      let chi = counts.values.reduce(0.0) { $0 + (Double($1) - 1000) * (Double($1) - 1000) / 1000 }
      #expect(abs(chi - 23) < 5 * 46.0.squareRoot())
    }

    @Test func foldedKeysDiffer() {
      var keys = Set<UInt64>()
      for key in 0..<100 as Range<UInt64> {
        for data in 0..<100 as Range<UInt64> { keys.insert(apus_random_fold(key, data)) }
      }
      #expect(keys.count == 10_000)
      #expect(apus_random_words(Int32(APUS_F32.rawValue), 5) == 8)
      #expect(apus_random_words(Int32(APUS_F64.rawValue), 5) == 12)
      #expect(apus_random_words(Int32(APUS_I8.rawValue), 4) == 8)
    }
  }
}
