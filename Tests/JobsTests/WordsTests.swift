import Jobs
import Testing

@Test(arguments: [
  ("GetWeather", "get weather"), ("alarm_query", "alarm query"), ("timeRange", "time range"), ("HTTPError2", "http error2"),
  ("serial-number", "serial number"), ("alarm/fire", "alarm fire"), ("pressure.bar", "pressure bar"), ("  two  words ", "two words"),
  ("sensor2Value", "sensor2 value"), ("ABC", "abc"), ("ÜberTemperatur", "über temperatur"), ("größeMM", "größe mm"), ("__", ""), ("温度", "温度"),
])
func namesAreSpokenAsWords(name: String, spoken: String) {
  #expect(words(name) == spoken)
}
