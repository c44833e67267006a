"""The way from pictures to probabilities. A registered model carries a copy of this folder and runs it where nothing else of this project
is installed. So its modules import each other by a leading dot, and no other module of ours."""
