"""Rules written as strings: from the text to a plan, from the plan to what happens to layouts."""
