"""Prints the polynomial coefficients of Sources/Kernels/Lanes/math_*.inc (needs mpmath and numpy)."""
import numpy as np
from mpmath import mp, mpf, matrix, lu_solve, exp, log, tanh, erf, erfc, sin, cos, sqrt, pi
mp.dps = 50
def fit(f, a, b, deg, name, fmt):
    n = deg + 1
    xs = [(a+b)/2 + (b-a)/2*mp.cos(pi*(2*k+1)/(2*n)) for k in range(n)]
    A = matrix(n, n); y = matrix(n, 1)
    for i, x in enumerate(xs):
        y[i] = f(x)
        for j in range(n): A[i, j] = x**j
    co = lu_solve(A, y)
    err = max(abs(sum(co[j]*x**j for j in range(n)) - f(x)) for x in [a+(b-a)*mpf(k)/200+mpf(10)**-12 for k in range(200)])
    print("//", name, "abs err", mp.nstr(err, 3))
    if fmt == 'f': print("{" + ", ".join("%sf" % repr(float(np.float32(float(v))))  for v in co) + "}")
    else: print("{" + ", ".join(float(v).hex() for v in co) + "}")
L = log(2)/2*mpf('1.002')
fit(lambda r: (exp(r)-1-r)/r**2 if abs(r)>mpf(10)**-12 else mpf(1)/2+r/6, -L, L, 4, "expf", 'f')
fit(lambda f: (log(1+f)-f+f*f/2)/f**3, sqrt(mpf(.5))-1-mpf(10)**-4, sqrt(mpf(2))-1+mpf(10)**-4, 8, "logf", 'f')
T = mpf('0.625')
fit(lambda z: (tanh(sqrt(z))/sqrt(z)-1)/z, mpf(10)**-20, T**2, 4, "tanhf", 'f')
E = mpf('0.921875')
fit(lambda z: erf(sqrt(z))/sqrt(z)-1, mpf(10)**-30, E**2, 6, "erff small", 'f')
fit(lambda x: -log(erfc(x)), mpf('0.92'), mpf('3.95'), 8, "erff large -log erfc", 'f')
Q = (pi/4)**2*mpf('1.001')
fit(lambda z: (sin(sqrt(z))/sqrt(z)-1)/z, mpf(10)**-20, Q, 3, "sinf", 'f')
fit(lambda z: (cos(sqrt(z))-1+z/2)/z**2, mpf(10)**-15, Q, 2, "cosf", 'f')
fit(lambda z: (cos(sqrt(z))-1+z/2)/z**2, mpf(10)**-15, Q, 3, "cosf3", 'f')
fit(lambda r: (exp(r)-1-r)/r**2 if abs(r)>mpf(10)**-12 else mpf(1)/2+r/6, -L, L, 10, "exp", 'd')
Z = (mpf(3)-2*sqrt(mpf(2)))**2*mpf('1.01')
fit(lambda z: (log((1+sqrt(z))/(1-sqrt(z)))/sqrt(z)-2)/z, mpf(10)**-20, Z, 7, "log", 'd')
fit(lambda z: (sin(sqrt(z))/sqrt(z)-1)/z, mpf(10)**-20, Q, 6, "sin", 'd')
fit(lambda z: (cos(sqrt(z))-1+z/2)/z**2, mpf(10)**-15, Q, 6, "cos", 'd')
ln2 = log(2)
h = mp.floor(ln2*2**15)/2**15; print("ln2 f32 hi", float(h).hex(), float(ln2-h).hex())
h = mp.floor(ln2*2**32)/2**32; print("ln2 f64 hi", float(h).hex(), float(ln2-h).hex())
p = pi/2
a = mp.floor(p*2**32)/2**32
b = mp.floor((p-a)*2**64)/mpf(2)**64
print("pi/2 in three parts", float(a).hex(), float(b).hex(), float(p-a-b).hex())
a = mp.floor(p*2**36)/mpf(2)**36
print("pi/2 in two parts", float(a).hex(), float(p-a).hex())
