import Testing
import CTernary

@Test func moduleLoads() { #expect(ct_select(nil) != nil) }
