// Programs to begin with. Names of files are English, as programs are.

/** @typedef {{id: string, file: string, terminal: boolean, text: string}} Example */

/** @type {Example[]} */
export const EXAMPLES = [
  {
    id: "hello",
    file: "hello.py",
    terminal: false,
    text: `# Press Run. Then change something, and press Run again.
name = input("What is your name? ")
print("Hello,", name)

for number in range(1, 6):
    print(number, "times", number, "is", number * number)
`,
  },
  {
    id: "drawing",
    file: "picture.py",
    terminal: false,
    text: `from PIL import Image, ImageDraw
from further_link import send_image

picture = Image.new("RGB", (320, 240), "navy")
pen = ImageDraw.Draw(picture)
for step in range(12):
    pen.ellipse((20 + step * 12, 20 + step * 8, 160 + step * 12, 120 + step * 8), outline="orange")
send_image(picture)
print("Look at the picture.")
`,
  },
  {
    id: "keys",
    file: "keys.py",
    terminal: false,
    text: `from PIL import Image, ImageDraw
from signal import pause
from further_link import KeyboardButton, send_image

x, y = 150, 110

def move(right, down):
    global x, y
    x, y = (x + right) % 320, (y + down) % 240
    picture = Image.new("RGB", (320, 240), "black")
    ImageDraw.Draw(picture).rectangle((x, y, x + 20, y + 20), fill="lime")
    send_image(picture)

keys = {"ArrowLeft": (-20, 0), "ArrowRight": (20, 0), "ArrowUp": (0, -20), "ArrowDown": (0, 20)}
buttons = []
for key, (right, down) in keys.items():
    button = KeyboardButton(key)
    button.when_pressed = lambda right=right, down=down: move(right, down)
    buttons.append(button)

move(0, 0)
print("Switch the keys on below the picture, and press the arrows. Stop ends it.")
pause()
`,
  },
  {
    id: "colours",
    file: "colours.py",
    terminal: true,
    text: `# This one runs in a terminal: it moves the cursor and uses colours.
import time

print("\\x1b[2J\\x1b[H", end="")
for step in range(60):
    colour = 16 + step * 3 % 216
    print(f"\\x1b[{step % 10 + 2};{step + 1}H\\x1b[48;5;{colour}m  \\x1b[0m", end="", flush=True)
    time.sleep(0.05)
print("\\x1b[13;1HDone.")
`,
  },
  {
    id: "shell",
    file: "count.sh",
    terminal: false,
    text: `#!/bin/bash
# Another language: the shell. The name of the file says which one it is.
echo "This device is $(hostname)."
for number in 5 4 3 2 1; do
  echo "$number …"
  sleep 0.3
done
echo "Go!"
`,
  },
];
