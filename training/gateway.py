"""Messages of the kind a gateway sees, written by templates: alarms, log lines, maintenance notes, voice commands.

The public intent and slot data speaks of music, weather and restaurants. This teaches the model the words of the
plant floor: what a machine, a reading, a place, a part number looks like, and which alarm is meant.
"""
import random
import re
import string

# --- what can stand in a field ------------------------------------------------------------------------------------

MACHINES = ("pump compressor conveyor boiler chiller fan motor gearbox turbine generator press robot mixer valve pallet-wrapper "
            "extruder furnace oven dryer crane forklift elevator centrifuge agitator blower feeder filter packer filler "
            "labeller lathe mill router server gateway inverter charger UPS transformer tank silo separator heater burner "
            "palletizer spindle lift cabinet slave cutter welder scanner camera winder saw drill pipe hopper washer grinder shredder condenser cooling-tower exhaust hydraulic-unit air-handler").split()
PLACES = ("line hall building room bay dock cell zone station floor section sector area unit gate warehouse workshop aisle "
          "block basement level store corridor").split()
PLAIN_PLACES = ("the boiler house", "the roof", "the basement", "the loading dock", "the server room", "the pump house", "the cold store",
                "the paint shop", "the tank farm", "the north yard", "the control room", "the canteen", "the substation", "the car park",
                "the main entrance", "the workshop", "the battery room", "the kitchen", "the archive", "the engine room", "the garage", "the stairwell", "the attic", "the plant room", "2nd floor", "3rd floor", "first floor", "ground floor", "north wing", "the machine hall", "warehouse north", "warehouse south", "reception", "the switch room", "the laboratory")
FIRST = ("anna ben carla david eva frank grace hans ines jonas karl lena maria nils olga paul rosa sven tom ute vera will yusuf zoe "
         "amir chen dana emil fatima george hannah igor julia kofi laura miguel nadia omar petra raj sara tariq").split()
LAST = ("smith meyer schmidt novak rossi garcia kim tanaka jensen larsen kowalski dubois silva lopez weber fischer wagner becker "
        "khan singh patel okafor mensah ivanov petrov olsen berg lind haas moreau").split()
PARTS = ("bearing seal filter belt fuse relay sensor gasket impeller hose coupling battery valve nozzle brush chain contactor "
         "encoder thermostat display cable gear pulley switch oil-filter drive-belt shaft-seal").split()
MONTHS = "january february march april may june july august september october november december".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()

UNITS = {
    "vibration": ("mm/s", "g", "um"), "temperature": ("C", "°C", "degrees", "F", "K"), "pressure": ("bar", "kPa", "mbar", "psi"),
    "level": ("%", "percent", "cm", "mm"), "flow": ("l/min", "m3/h", "l/s"), "voltage": ("V", "mV", "kV"), "current": ("A", "mA"),
    "speed": ("rpm", "Hz", "m/min"), "humidity": ("%", "% RH", "percent"), "power": ("kW", "W", "kWh"), "noise": ("dB", "dB(A)"),
    "concentration": ("ppm", "mg/m3"), "weight": ("kg", "t", "g"), "time": ("s", "ms", "min", "h", "seconds", "minutes", "hours"),
    "signal": ("dBm", "%"), "torque": ("Nm",), "battery": ("%", "V", "percent"),
}


def code(r, shapes=("LL-dddd", "Ldd", "LLddd", "dddd", "L-dd", "LLL-ddd", "Lddd-dd", "dd-dddd", "LLLdd", "Xddd", "LdLd")):
    pick = {"L": string.ascii_uppercase, "d": string.digits, "X": "xyzkq"}
    s = "".join(r.choice(pick[c]) if c in pick else c for c in r.choice(shapes))
    return s.lower() if r.random() < 0.2 else s


def tag(r):
    return r.choice((str(r.randint(1, 30)), str(r.randint(1, 9)), r.choice("ABCDEF"), f"{r.randint(1, 9)}{r.choice('ABC')}", code(r, ("L-dd", "Ldd", "dd"))))


def machine(r):
    name = r.choice(MACHINES).replace("-", " ")
    if r.random() < 0.15:
        name = r.choice(("main", "spare", "north", "feed", "return", "vacuum", "cooling", "water", "oil", "gas")) + " " + name
    return f"{name} {tag(r)}" if r.random() < 0.85 else name


def number(r):
    return r.choice((f"{r.uniform(0, 20):.1f}", str(r.randint(0, 100)), f"{r.uniform(0, 400):.1f}", str(r.randint(100, 5000)), f"{r.uniform(0, 9):.2f}", f"-{r.randint(1, 40)}"))


def quantity(kind):
    def fill(r):
        unit = r.choice(UNITS[kind])
        return number(r) + ("" if unit in ("%", "°C") and r.random() < 0.5 else " ") + unit
    return fill


def place(r):
    return f"{r.choice(PLACES)} {tag(r)}" if r.random() < 0.75 else r.choice(PLAIN_PLACES)


def person(r):
    return r.choice((r.choice(FIRST), f"{r.choice(FIRST)} {r.choice(LAST)}", f"{r.choice(FIRST)[0].upper()}. {r.choice(LAST).title()}", r.choice(LAST).title(), f"{r.choice(FIRST).title()} {r.choice(LAST).title()}"))


def clock(r):
    return r.choice((f"{r.randint(0, 23):02}:{r.randint(0, 59):02}", f"{r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}", f"{r.randint(1, 12)} {r.choice(('am', 'pm'))}", f"{r.randint(1, 12)} o'clock"))


def date(r):
    return r.choice((f"20{r.randint(19, 35)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}", f"{r.randint(1, 28)} {r.choice(MONTHS).title()}", f"{r.choice(MONTHS)} {r.randint(1, 28)}",
                     r.choice(DAYS), "tomorrow", "today", "yesterday", f"next {r.choice(DAYS)}", f"{r.randint(1, 28)}.{r.randint(1, 12)}.20{r.randint(20, 35)}", "next week"))


FILL = {
    "machine": machine, "place": place, "person": person, "clock": clock, "date": date,
    "part": lambda r: r.choice(PARTS).replace("-", " "), "part_id": code,
    "serial": lambda r: code(r, ("LLdddddd", "dddddddd", "SN-dddddd", "LLL-dddd-dd", "LdddddL")),
    "error": lambda r: r.choice((code(r, ("Ldd", "Lddd", "Ldddd", "LL-ddd")), str(r.randint(1, 999)), "0x" + "".join(r.choices("0123456789abcdef", k=r.choice((2, 4)))))),
    "sensor": lambda r: r.choice((code(r, ("Tddd", "PT-dd", "LT-ddd", "sdd", "FTddd", "Add")), "sensor " + tag(r), r.choice(("tt", "pt", "fs", "lt")) + str(r.randint(1, 99)))),
    "ip": lambda r: f"{r.choice((10, 172, 192))}.{r.randint(0, 255)}.{r.randint(0, 255)}.{r.randint(1, 254)}",
    "version": lambda r: f"{r.choice(('', 'v'))}{r.randint(0, 9)}.{r.randint(0, 20)}" + (f".{r.randint(0, 30)}" if r.random() < 0.7 else ""),
    "badge": lambda r: r.choice((str(r.randint(100, 99999)), code(r, ("LLddd", "B-dddd")))),
    "count": lambda r: r.choice((str(r.randint(2, 500)), r.choice("two three four five six seven eight nine ten twelve twenty".split()))),
    "order": lambda r: code(r, ("LL-dddd", "ddddd", "WO-dddd", "PO dddd", "dddddd")),
    "tag": tag, "host": lambda r: r.choice(("plc", "gw", "edge", "cam", "node", "hmi", "sw", "eth", "modem")) + r.choice(("", "-")) + str(r.randint(0, 40)),
    "setpoint": lambda r: r.choice((str(r.randint(1, 100)), f"{r.uniform(0, 90):.1f}")) + r.choice((" percent", " degrees", " bar", " rpm", "%", " C", " Hz")),
}
FILL |= {kind: quantity(kind) for kind in UNITS}

# --- what a field may be called: the first name is the usual one ------------------------------------------------------

READINGS = tuple(kind for kind in UNITS if kind != "time")  # any of them answers to "value"
NAMES = {
    "machine": ("machine", "device", "equipment", "asset", "unit", "machine name"), "place": ("place", "location", "area", "where", "site"),
    "person": ("person", "name", "technician", "operator", "who", "reported by"), "clock": ("time", "clock time", "at", "timestamp", "hour"),
    "date": ("date", "day", "when", "due date"), "part": ("part", "component", "spare part", "item"), "part_id": ("part id", "part number", "id", "code", "part no"),
    "serial": ("serial number", "serial", "serial no"), "error": ("error code", "error", "code", "fault code", "alarm code"),
    "sensor": ("sensor", "sensor id", "probe", "tag"), "ip": ("ip address", "ip", "address"), "version": ("version", "firmware version", "release"),
    "badge": ("badge", "badge number", "card"), "count": ("count", "quantity", "number", "amount", "how many"), "order": ("order number", "work order", "order", "ticket"),
    "host": ("host", "node", "controller", "host name"), "setpoint": ("setpoint", "target", "set value"), "limit": ("limit", "threshold", "maximum", "alarm limit"),
}
NAMES |= {kind: (kind,) for kind in READINGS}
NAMES |= {"reading": ("value", "value", "reading", "measurement", "measured value"), "time": ("duration", "how long", "delay")}

# --- messages. {field} or {field:filler}; a | offers alternatives in round brackets --------------------------------------

TEMPLATES = {
    "vibration": [
        "{machine} vibration {vibration} above limit (on|in|at) {place}", "{machine} vibration {vibration} (above limit|too high|exceeds {limit:vibration})",
        "vibration (on|at) {machine} {place} is {vibration}, (limit {limit:vibration}|should be below {limit:vibration})", "high vibration {machine} {vibration}",
        "{place}: {machine} shakes (badly|a lot|when starting), {vibration} (measured|rms)", "bearing of {machine} vibrates with {vibration} at {speed:speed}",
        "ALARM {error} {machine} VIBRATION {vibration}", "(strong|heavy|unusual) (shaking|vibration|oscillation) of {machine} in {place}",
        "{machine} (vibrates|shakes|rattles|trembles) (a lot|again|since {clock}|since {date})", "(rms velocity|velocity|acceleration) {vibration} on {machine} (exceeds|over) {limit:vibration}", "{sensor} {vibration}, vibration (warning|alert|trip) {machine}",
        "{machine}: imbalance, {vibration} at {speed}", "something (rattles|shakes) inside {machine} (on|in) {place}", "vibration monitor (trip|alert) {machine} {place} {clock}"],
    "leak": [
        "(water|oil|coolant|gas|steam|ammonia) (leak|leaking|leakage) (at|from) {machine} in {place}", "{machine} is (leaking|dripping|losing oil), {flow}( lost| measured)", "puddle (under|below) {machine} {place}",
        "leak detected (at|by) {sensor}, {place}", "{place}: (oil|water|fluid) on the floor (near|next to) {machine}", "seal of {machine} (leaks|drips|is wet) since {clock}",
        "leak sensor {sensor} wet (at|in) {place} {clock}", "gas concentration {concentration} in {place}, possible leak", "flow differs by {flow} between in and out of {machine}, (leak|loss) suspected",
        "(water|oil|coolant|fluid|condensate) (under|below|around|next to) {machine} (in|at) {place}", "{machine} (drips|is dripping|sprays water|loses water) (in|at|on) {place}", "(wet floor|puddle|oil stain|oil spill|water) (in|at) {place}, reported by {person}",
        "(pipe|hose|flange|tank|valve) (burst|broken|leaking|drips) (in|at|near) {place}", "(flood|flooding|water ingress|water) (detected|found|seen) in {place} at {clock}", "moisture detected by {sensor} {place}", "(gas|refrigerant) escaping from {machine}, {concentration} measured"],
    "fire": [
        "(smoke|fire|flames) (detected|seen|reported) (in|at|near) {place}", "fire alarm {place} {clock}", "smoke detector {sensor} (triggered|alarm) in {place}", "{machine} (is burning|on fire|smokes|is smoking) in {place}",
        "(burning smell|smell of smoke|sparks and smoke) at {machine} {place}, reported by {person}", "sprinkler (opened|active) in {place} at {clock}", "thermal camera sees flames near {machine}", "FIRE {place} evacuate",
        "(smoke|fire|flames|burning|smell of burning) in {place}", "{place} (full of smoke|on fire|is burning)", "(i see|there is) (smoke|fire) (in|at|near|behind) {place}", "{sensor} smoke {concentration} {place}, (evacuate|alarm)", "{machine} caught fire at {clock}, {person} called the fire brigade",
        "heat and smoke at {machine}, sprinklers on", "fire door closed by alarm in {place}, smoke detector {sensor}", "(cable|motor|battery) of {machine} burning, extinguisher used by {person}"],
    "overheating": [
        "{machine} temperature {temperature} (above limit|too high|over {limit:temperature}) (in|on) {place}", "{machine} (too hot|overheating|overheated): {temperature}", "temperature of {machine} (rose|climbed) to {temperature} at {clock}",
        "{sensor} reads {temperature}, limit {limit:temperature}, {machine}", "bearing temperature {machine} {temperature}", "motor winding of {machine} at {temperature}, fan off", "hot {machine} in {place}, (shut down|stopped) at {temperature}",
        "WARN {host} cpu temperature {temperature} (throttling|above threshold)", "oil temperature of {machine} high {temperature}",
        "{machine} (is|gets|was) (too hot|very hot|overheated) (in|on|at) {place}", "{machine} at {temperature}, (limit|max|maximum) is {limit:temperature}", "(thermal|overtemperature|high temperature) (trip|alarm|warning) {machine} {temperature}", "{sensor} temperature {temperature} (above|over|exceeds) {limit:temperature}",
        "temperature (sensor|probe) reads {temperature}, fan (off|stopped|failed)", "cooling of {machine} failed, {temperature} and rising", "hot (bearing|surface|motor|oil) on {machine}: {temperature}", "{place} {machine} {temperature} overtemperature"],
    "pressure": [
        "{machine} pressure {pressure} (below limit|too low|too high|above {limit:pressure})", "pressure (drop|loss|spike) at {machine} {place}: {pressure}", "{sensor} pressure {pressure}, expected {limit:pressure}", "low pressure {pressure} on {place}",
        "inlet pressure of {machine} fell to {pressure} at {clock}", "overpressure {pressure} in {machine}", "compressed air only {pressure} (in|at) {place}",
        "pressure {pressure} at {machine}, (limit|set|nominal) {limit:pressure}", "{machine}: (inlet|outlet|suction|discharge|line) pressure {pressure} (low|high|unstable|dropping)", "{sensor} {pressure} low pressure", "no pressure on {place}, {machine} at {pressure}", "pressure (relief|safety) valve of {machine} opened at {pressure}"],
    "level": [
        "{machine} level {level} (below minimum|too low|almost empty)", "(fill level|level) of {machine} at {level}, overflow (soon|risk)", "{machine} (nearly empty|almost full|overfilled): {level}", "low (oil|water|coolant|fuel) level {level} in {machine} {place}",
        "{sensor} level high high {level}", "refill {machine} in {place}, level {level}", "(tank|silo) in {place} down to {level}",
        "{machine} is (nearly empty|almost empty|full|running low), {level} left", "(low|high) level in {machine}: {level}", "level (switch|sensor) {sensor} {level}, (minimum|limit) {limit:level}", "{place} {machine} only {level} (left|full)", "diesel tank of {machine} at {level}"],
    "power": [
        "power (failure|outage|cut|lost) in {place} (at {clock}|since {clock})", "{place} without (power|electricity) since {clock}", "{machine} lost mains, running on battery", "voltage {voltage} on {place} (below limit|too low)",
        "phase L{count:phase} missing at {machine}", "breaker {part_id} tripped (in|at) {place}", "undervoltage {voltage} {machine}", "blackout {place}", "{machine} overcurrent {current}, fuse blown",
        "(mains|supply|grid power) (lost|failed|gone|down) (in|at|on) {place}", "mains (lost|failed|gone) at {clock}, running on (generator|battery|ups)", "(power|electricity|supply) (is out|is gone|failed|down) (in|on) {place}", "{machine} has no (power|voltage|supply)", "(fuse|breaker|rcd) {part_id} (tripped|blown|open) at {clock}",
        "generator {machine} took over at {clock}, mains down", "voltage dip {voltage} for {time}", "lights out in {place}, no electricity", "UPS on battery since {clock}, input {voltage}"],
    "battery": [
        "battery (low|weak|empty) {battery} (on|of|in) {sensor}", "{machine} battery {battery}, (replace soon|charging off)", "replace battery of {sensor} in {place}", "battery voltage {voltage} low, solar input {power}", "{host} battery at {battery} {clock}", "UPS in {place} battery {battery} left",
        "battery {battery} (low|left|remaining) in {host}", "{sensor} low battery", "battery voltage {voltage} (low|too low|below {limit:voltage}), (solar|charger|input) {power}", "change (the battery|batteries) of {sensor} by {date}", "{machine} accumulator at {battery}, not charging", "charging fault, battery at {voltage}"],
    "network": [
        "{host} (offline|unreachable|not responding) since {clock}", "connection to {host} ({ip}) (lost|timed out|refused)", "ERROR modbus timeout slave {count} (register {error}|on {host})", "no (data|signal|heartbeat) from {sensor} for {time}",
        "packet loss {level} on {host}", "{clock} {host} link down", "wifi signal {signal} (weak|poor) at {place}", "mqtt broker {ip} disconnected, retry in {time}", "WARN {host} dns lookup failed for {ip}", "{host} link up 1000 Mbit/s then down again",
        "{host} (lost|has no|without) (connection|network|link|signal)", "{host} did not answer for {time}", "(ping|connection|request|poll) to {ip} (failed|timed out|lost)", "ERROR {host} (timeout|unreachable|no route), slave {count}", "ERROR modbus (timeout|crc error|exception) slave {count} register {error}", "INFO link (up|down) {host} {ip}", "WARN eth{count} link down on {host}",
        "{sensor} stopped sending data at {clock}", "gateway {host} offline in {place}", "vpn to {ip} down since {clock}", "no connection to {place}, router {host} rebooting"],
    "door": [
        "door (of|to) {place} (opened|open|forced|not closed) at {clock}", "door of cabinet {badge} opened at {clock} by {person}", "{place} door open for {time}", "gate at {place} (left open|does not close)", "badge {badge} (denied|rejected|unknown) at {place}", "{person} entered {place} with badge {badge} at {clock}",
        "access door {place} unlocked", "(unknown|invalid) badge {badge} at door {place} {clock}",
        "(someone|unknown person|visitor) (opened|entered) {place} at {clock}", "door of (cabinet|panel|locker|room|gate) {tag} (opened|open|forced) at {clock} by (unknown badge|badge {badge}|{person})", "{place} (door|gate|hatch|window) (is open|left open|forced open|unlocked)", "(cabinet|panel|enclosure) door open at {place}", "gate {place} open since {clock}, badge {badge}", "(intrusion|break-in|unauthorized access) at {place} {clock}", "{person} badge {badge} opened {place}"],
    "sensor fault": [
        "{sensor} (faulty|defective|broken|stuck at {temperature})", "sensor {sensor} on {machine} (gives no value|reads nonsense|out of range)", "{sensor} reading implausible: {temperature}", "wire break {sensor} {place}", "{sensor} signal (noisy|drifting|lost) at {machine}", "calibration of {sensor} (overdue|expired) since {date}", "ERROR {sensor} short circuit code {error}",
        "{sensor} (failed|no value|dead|frozen|disconnected|implausible)", "(thermocouple|probe|transmitter|encoder) {sensor} (open circuit|broken|short circuit) on {machine}", "{sensor} at {machine} (jumps|drifts|sticks), replace it", "reading of {sensor} not valid, quality bad"],
    "stopped": [
        "{machine} (stopped|stalled|jammed|blocked|tripped) (in|on|at) {place}", "emergency stop (pressed|active) at {place} by {person}", "{place} stands still, {machine} (jam|blocked)", "{machine} does not start, error {error}", "{clock} {machine} stop code {error}", "{machine} fault {error}, restart failed", "e-stop {place} {clock}",
        "{machine} (does not run|will not start|stands still|is down|broke down|has stopped)", "{machine} (stopped|tripped|halted) at {clock} with (error|fault|code) {error}", "(jam|blockage|paper jam|material stuck) (at|in|on) {machine} {place}", "production stopped on {place}, {machine} (down|broken)", "valve {tag} closed, {machine} stopped", "(motor|drive|axis) fault {error} {machine} {place}"],
    "maintenance": [
        "(replaced|changed|swapped) {part} {part_id} (on|of|in) {machine}, {person}", "{date}: {person} replaced {part} of {machine}, serial {serial}", "service {machine} (due|planned) on {date}", "{machine} serial number {serial} needs a new {part}", "order {count} {part} {part_id} for {machine}",
        "greased {part} of {machine} in {place} on {date}", "work order {order}: check {part} on {machine} by {date}", "inspection of {machine} (done|finished) by {person} {date}", "installed {part} s/n {serial} in {machine}", "{person} will fix {machine} on {date} at {clock}",
        "(replaced|changed|repaired|cleaned|checked|adjusted|lubricated) {part} {part_id} of {machine} in {place} on {date}, {person}", "{person} (replaced|fitted|installed) a new {part}, serial {serial}", "(replaced|repaired) {machine} in {place} on {date}, serial {serial}, {person}", "(please|must) (clean|grease|inspect|check) {machine} (by|before) {date}",
        "{machine} serviced by {person} on {date} at {clock}", "{part} {part_id} worn out on {machine}, order {count}", "next service of {machine} {date}", "oil change {machine} {date} {person}", "calibrated {sensor} on {date}, {person}"],
    "update": [
        "firmware (update|upgrade) to {version} (finished|failed|started) on {host}", "{host} (updated|upgraded) from {from:version} to {version}", "INFO {host} reboot in {time} after update {version}", "new version {version} available for {machine}", "installing {version} on {host} at {clock}", "rollback of {host} to {version}, error {error}",
        "firmware update to {version} (finished|done|ok), reboot in {time}", "{host} runs {version} now", "update of {host} to {version} failed with {error}", "(software|firmware|config) {version} (deployed|installed|rolled out) to {host} at {clock}", "please update {machine} to {version} on {date}", "{host} needs version {version}, has {from:version}"],
    "command": [
        "(set|turn|change) {machine} to {setpoint}", "(switch|turn) (on|off) {machine} in {place}", "please (stop|start) {machine} at {clock}", "start {machine} on {place}", "set the speed of {machine} to {setpoint}", "raise the temperature in {place} to {setpoint}", "close {machine} (now|at {clock}|on {date})",
        "move {count} pallets from {from:place} to {place}", "tell {person} to check {machine}", "lights (on|off) in {place}", "reset alarm {error} on {machine}",
        "(open|close|start|stop|reset|restart) {machine} (in|on) {place}", "(open|close|start|stop|reset|restart) {machine}", "run {machine} at {setpoint}", "(heat|cool) {place} to {setpoint}", "(increase|reduce|lower|set) {machine} (speed|pressure|temperature|flow) to {setpoint}", "call {person} to {place}", "start {machine} on {date} at {clock}", "show me {machine} in {place}"],
    "normal": [
        "{machine} (running|ok|normal|in operation), {temperature}", "all (systems|values) normal in {place}", "{machine} vibration {vibration} (within limits|normal|ok)", "{sensor} temperature {temperature} ok", "INFO {host} heartbeat ok {clock}", "{machine} pressure {pressure} (stable|within range|as expected)",
        "shift report {place}: no (incidents|problems|alarms)", "{place} everything fine, {person}", "level of {machine} {level}, normal", "alarm {error} cleared on {machine}", "(routine|regular) check of {machine} in {place} without findings",
        "{machine} (running normally|works fine|is ok|back to normal|running well), {temperature}", "{machine} ok", "{place} (ok|all good|nothing to report|quiet)", "(self test|selftest|daily check) of {machine} (passed|ok)", "{sensor} {temperature} (normal|fine|ok|within limits)", "{machine} started, pressure {pressure}, (all fine|normal)", "INFO {host} up, {ip}, all services running", "{machine} {flow}, {pressure}, (normal|nominal|as usual)", "(everything|all) (ok|fine|normal) on {place} at {clock}, {person}"],
    "delivery": [
        "delivery of {count} {part} for order {order} on {date}", "truck for order {order} at {place} {clock}", "order {order}: {count} x {part_id} shipped {date}", "{person} ordered {count} {part}, order number {order}", "goods received: {count} pcs {part_id} at {place}", "material shortage: {part} {part_id}, {count} left",
        "(truck|parcel|shipment|container) with {count} {part} arrives {date} at {clock}", "received {count} {part} {part_id} from {person}", "please order {count} {part} {part_id}", "{count} pallets for {place}, order {order}", "order {order} (delayed|late|cancelled), new date {date}"],
    "environment": [
        "humidity {humidity} in {place} (too high|above limit)", "noise {noise} at {place}", "co2 {concentration} in {place}", "dust {concentration} near {machine}", "air quality in {place} poor, {concentration}", "room temperature {place} {temperature}, humidity {humidity}", "freezing outside {temperature}, frost risk at {place}",
        "{place}: humidity {humidity}, temperature {temperature}", "air in {place} is (bad|dusty|dry|too humid), {humidity}", "{sensor} humidity {humidity} in {place}", "(co2|nox|ozone|dust) at {concentration} in {place}, limit {limit:concentration}", "too loud in {place}: {noise}", "frost warning {temperature} outside"],
}
LABELS = {
    "vibration": ("vibration", "vibration", "shaking", "high vibration"), "leak": ("leak", "leak", "leakage", "leaking"), "fire": ("fire", "fire", "smoke or fire", "fire alarm"),
    "overheating": ("overheating", "overheating", "overheat", "high temperature", "too hot"), "pressure": ("pressure", "pressure", "pressure problem"), "level": ("level", "tank level", "fill level"),
    "power": ("power", "power", "power failure", "electricity"), "battery": ("battery", "low battery"), "network": ("network", "network", "connection lost", "connectivity", "offline"), "door": ("door", "door", "access", "door open"),
    "sensor fault": ("sensor fault", "sensor", "bad sensor"), "stopped": ("stopped", "machine stopped", "breakdown", "stop"), "maintenance": ("maintenance", "maintenance", "service", "repair"), "update": ("update", "firmware", "software update"),
    "command": ("command", "command", "voice command", "request"), "normal": ("normal", "normal", "ok", "no problem", "all good"), "delivery": ("delivery", "logistics", "order"), "environment": ("environment", "climate", "air quality"),
}

_ALTERNATIVES = re.compile(r"\(([^()]*\|[^()]*)\)")
_SLOT = re.compile(r"\{([a-z_ ]+)(?::([a-z_]+))?\}")


def message(r: random.Random):
    """One message: its text, its kind, and [field, start, end] for what stands in it."""
    kind = r.choice(list(TEMPLATES))
    template = r.choice(TEMPLATES[kind])
    while _ALTERNATIVES.search(template):
        template = _ALTERNATIVES.sub(lambda m: r.choice(m[1].split("|")), template)
    if r.random() < 0.12:
        template = r.choice(("{clock} ", "{date} {clock} ", "[{clock}] ", "{host}: ", "{place}: ", "WARN ", "ALARM: ", "note: ", "urgent: ")) + template
    if r.random() < 0.12:
        template += r.choice((", {clock}", ", please check", " ({person})", ", reported by {person}", ", {place}", " at {clock}", " on {date}", ".", "!", ", serial {serial}", " error {error}"))
    text, spans, at = "", [], 0
    for m in _SLOT.finditer(template):
        text += template[at:m.start()]
        field, filler = m[1], m[2] or m[1]
        value = r.choice(("1", "2", "3")) if filler == "phase" else FILL[filler](r)
        if field in ("from", "tag") or filler == "phase":
            field = None
        if field:
            spans.append([field, len(text), len(text) + len(value)])
        text += value
        at = m.end()
    text += template[at:]
    roll = r.random()
    if roll < 0.15:
        changed = text.lower()
    elif roll < 0.25:
        changed = text[:1].upper() + text[1:]
    elif roll < 0.28:
        changed = text.upper()
    else:
        changed = text
    return (changed if len(changed) == len(text) else text), kind, spans


if __name__ == "__main__":
    r = random.Random(1)
    for _ in range(30):
        text, kind, spans = message(r)
        print(f"{kind:13} {text}   ", {f: text[a:b] for f, a, b in spans})
